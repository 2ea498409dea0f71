"""One process at a time writes a run: a lock file that the system gives back at its end."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from pathlib import Path

logger = logging.getLogger(__name__)

LOCK = ".lock"
_UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
Key = tuple[int, int, int]  # process, device and inode of the lock file

# Locks belong to processes, so the process keeps the books: several stores of one run in one
# process (a notebook that resumes what it began) share the lock. By key: descriptor, holders.
_held: dict[Key, list[int]] = {}


class LockedError(RuntimeError):
    """Another process holds the lock; the message names it."""


def acquire(folder: Path) -> Key:
    """Lock a folder for this process; hand the key to :func:`release`.

    Raises
    ------
    LockedError
        If another process holds it.
    OSError
        If the folder cannot be written.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    status = os.fstat(descriptor)
    key = (os.getpid(), status.st_dev, status.st_ino)
    if key in _held:
        os.close(descriptor)
        _held[key][1] += 1
        return key
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise LockedError(holder or "process unknown") from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            os.close(descriptor)
            raise
        logger.warning("no file locks in %s: make sure that one process writes it", folder)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    _held[key] = [descriptor, 1]
    return key


def release(key: Key) -> None:
    """Give a lock back; the last holder in the process frees it for others."""
    entry = _held[key]
    entry[1] -= 1
    if entry[1] == 0:
        del _held[key]
        os.close(entry[0])
