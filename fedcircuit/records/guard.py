"""What keeps a run from being written, in words: another writer, or a disk that refuses."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedcircuit.records import lock
from fedcircuit.records.reading import RunError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def locked(path: Path) -> lock.Key:
    """Lock a run for this process; give it back with ``lock.release``.

    Raises
    ------
    RunError
        If another process holds it; the process is named.
    """
    try:
        return lock.acquire(path)
    except lock.LockedError as error:
        raise RunError(
            f"{path} is being written by another process ({error}); wait for it or stop it. "
            "To read the run meanwhile use Run.load, or 'fedcircuit report'"
        ) from error
    except OSError as error:
        raise RunError(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from error


@contextmanager
def explained(path: Path, what: str, n_bytes: int) -> Iterator[None]:
    """Turn an error of the disk into one that says what was not written, and how to go on.

    Parameters
    ----------
    path
        The run folder.
    what
        What is being written, such as ``round 7``.
    n_bytes
        How much it takes.

    Raises
    ------
    RunError
        If the block raises an OSError, which stays its cause.
    """
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(path if path.is_dir() else path.absolute().parent).free
        cause = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        raise RunError(
            f"{path}: {what} was not recorded: {cause} (it takes {_mib(n_bytes)}, "
            f"{_mib(free)} are free). All that was recorded before is intact. Make space and go "
            f"on with 'fedcircuit resume {path}'; a new run takes less with storage.updates none"
        ) from error


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.2f} MiB"
