"""What keeps a run from being written, in words: another writer, or a disk that refuses."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedcircuit.records.files import lock
from fedcircuit.records.files.read_errors import RunError

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
def explained(path: Path, what: str, n_bytes: int, *, new: bool = False) -> Iterator[None]:
    """Turn an error of the disk into one that says what was not written, and how to go on.

    Parameters
    ----------
    path
        The run folder.
    what
        What is being written, such as ``round 7``.
    n_bytes
        How much it takes.
    new
        Whether the folder is being made.

    Raises
    ------
    RunError
        If the block raises an OSError, which stays its cause.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: {what} was not recorded: {_cause(path, error, n_bytes, new=new)}"
        ) from error


def _cause(path: Path, error: OSError, n_bytes: int, *, new: bool) -> str:
    """Why the disk refused, and what to do about it."""
    kept = "All that was recorded before is intact"
    again = f"go on with 'fedcircuit resume {path}'"
    if error.errno in _FULL:
        return (
            f"the disk is full (it takes {_mib(n_bytes)}, {_free(path)} are free). {kept}. Make "
            f"space and {again}; a new run takes less with storage.updates none"
        )
    if error.errno == errno.EROFS:
        return (
            "the disk can only be read. Mount it so that it can be written, or copy the run to "
            f"another disk, and {again}"
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE) and not path.is_dir():
        if new:
            return (
                f"the folder cannot be made ({error.strerror}). Give another one, with --out or "
                "run_dir"
            )
        return (
            "the run folder is gone: it was deleted, moved or unmounted meanwhile. Put it back to "
            "go on with it, or start a new run"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not write there. {kept}. Change the permissions and {again}"
    if error.errno == errno.ENAMETOOLONG:
        return "a name is too long for the disk; choose a shorter one with --out"
    words = error.strerror or str(error)
    return f"{words} (it takes {_mib(n_bytes)}, {_free(path)} are free). {kept}; {again}"


def _free(path: Path) -> str:
    try:
        return _mib(shutil.disk_usage(path if path.is_dir() else path.absolute().parent).free)
    except OSError:
        return "an unknown number of MiB"


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.2f} MiB"
