"""Whatever goes wrong while a run is read becomes one error that names the file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

MOST_WORDS = 300  # characters of the cause that an error quotes
# What damaged content makes Python and the libraries raise; anything else is a defect of ours.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    SafetensorError,
    TypeError,
    ValueError,
    struct.error,
)


class RunError(RuntimeError):
    """A run folder that cannot be used as asked; the message says why and how to mend it."""


class UnknownTableError(RunError, KeyError):
    """No round of the run has such a table."""

    __str__ = RuntimeError.__str__  # a KeyError would show its message in quotes


@contextmanager
def reading(file: Path, part: str = "") -> Iterator[None]:
    """Turn what damaged content raises into a RunError.

    Parameters
    ----------
    file
        What is read.
    part
        Where in it, such as ``line 7 (round 6)``.

    Raises
    ------
    RunError
        If the block raises what damage raises; a RunError passes as it is.
    """
    where = f"{file}, {part}" if part else str(file)
    try:
        yield
    except RunError:
        raise
    except FileNotFoundError as error:
        raise RunError(
            f"{file} is missing; copy the run folder again, with all its files and sub-folders"
        ) from error
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise RunError(f"{where} cannot be read: {error.strerror}") from error
    except DAMAGE as error:
        raise RunError(
            f"{where} is damaged: {in_short(error)}; restore it from a copy of the run"
        ) from error


def in_short(error: BaseException) -> str:
    """An error in a line that stays short whatever it quotes."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = " ".join(text.split())
    if len(text) <= MOST_WORDS:
        return text
    return f"{text[:MOST_WORDS]} ... ({len(text):,} characters)"
