"""Files that survive being cut off: written whole or not at all, appended line by line.

What a function here has written is on the disk when it returns, not only in memory: the file is
flushed (fsync) before it gets its name, and the folder that holds the name after it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".*.tmp"  # names of files that are not finished


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that its name never stands for half of it.

    Raises
    ------
    OSError
        If the disk does not take it; nothing is left behind, an older file is unharmed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
            _write(descriptor, data)
            os.fsync(descriptor)
        os.replace(temporary, path)  # noqa: PTH105  # os functions throughout: tests cut them off
    except BaseException:  # an interrupt must not leave half a file either
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file, and say what to do, where the disk does not take what the block writes.

    Raises
    ------
    OSError
        With a message for a person.
    """
    try:
        yield
    except OSError as error:
        hint = {
            errno.ENOSPC: "; make space and do it again",
            errno.EDQUOT: "; make space and do it again",
            errno.EROFS: "; the disk can only be read: write to another one",
            errno.EISDIR: "; a folder of that name is in the way",
        }.get(error.errno or 0, "")
        words = error.strerror or str(error)
        raise OSError(f"{path} was not written: {words}{hint}") from error


def append_line(path: Path, line: bytes) -> None:
    """Add one line to a file.

    Raises
    ------
    OSError
        If the disk does not take it; the file is then as it was.
    """
    new = not path.exists()
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
        if new:
            sync_folder(path.parent)  # first, so that nothing can fail after the line
        size = os.fstat(descriptor).st_size
        try:
            _write(descriptor, line)
            os.fsync(descriptor)
        except BaseException:  # an interrupt must not leave half a line either
            os.ftruncate(descriptor, size)
            raise


def complete_lines(path: Path, start: int = 0) -> list[bytes]:
    """Lines from byte ``start`` on, newlines included; not one that was cut off at the end.

    A machine that lost power may leave an end of the right length and the wrong content, so the
    last line counts only if it is JSON. A missing file has no lines.
    """
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read().split(b"\n")[:-1]
    if lines and not _is_json(lines[-1]):
        lines.pop()
    return [line + b"\n" for line in lines]


def cut_torn_line(path: Path, end: int) -> Path | None:
    """Move what follows byte ``end`` to a file beside, ``NAME.torn-0``; None where nothing does.

    Only for the process that writes the file: elsewhere it may be a line in the making.
    """
    if not path.exists() or path.stat().st_size <= end:
        return None
    with path.open("rb") as file:
        file.seek(end)
        torn = file.read()
    number = 0
    while (aside := path.with_name(f"{path.name}.torn-{number}")).exists():
        number += 1
    write_whole(aside, torn)
    with _opened(path, os.O_WRONLY) as descriptor:
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    return aside


def remove_leftovers(folder: Path) -> None:
    """Delete the unfinished files that a killed process left in a folder."""
    for path in folder.glob(TEMPORARY):
        path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk."""
    with _opened(path, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:  # a write may take less than it was given
        left = left[os.write(descriptor, left) :]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):  # nested deeper than anything we write
        return False
    return True
