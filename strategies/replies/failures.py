"""What goes wrong in clients, in words a person can act on."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import fedcircuit

LIBRARIES = {"fedcircuit", "flwr", "ray", "torch", "numpy"}
_LIBRARY_PATHS = ("site-packages", "dist-packages", f"{os.sep}lib{os.sep}python")
_HERE = Path(__file__).parent  # the package's parts may lie beside each other, or in one folder
_OWN_FOLDERS = tuple(
    f"{folder}{os.sep}"
    for folder in (Path(fedcircuit.__file__).parent, _HERE, _HERE.parent / "clients")
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FLOWER_REASON = re.compile(r"<class '(?P<kind>[^']*)'>:<'(?P<message>.*)'>", re.DOTALL)
_FRAME = re.compile(r'^ *File "([^"]+)", line (\d+), in (\S+)', re.MULTILINE)


@dataclass(frozen=True)
class ClientError:
    """An exception that a client raised in this process.

    Parameters
    ----------
    client
        Partition id as text.
    round
        Round of the message, None where the message does not tell.
    exception
        The original exception, with its traceback.
    """

    client: str
    round: int | None
    exception: BaseException

    @property
    def where(self) -> str:
        """The user's own last line: ``path:line in function``."""
        return user_frame(self.exception)


def user_frame(exception: BaseException) -> str:
    """The last frame of an exception that is no library's: ``path:line in function``.

    Where the exception never passed through the user's code it is the last frame of all.
    """
    frames, trace = [], exception.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    if not frames:
        return "an unknown place"
    own = [frame for frame in frames if not _is_library(frame)]
    last = (own or frames)[-1]
    code = last.tb_frame.f_code
    return f"{code.co_filename}:{last.tb_lineno} in {code.co_name}"


def _is_library(frame: TracebackType) -> bool:
    top = str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
    path = frame.tb_frame.f_code.co_filename
    return (
        top in LIBRARIES
        or top in sys.stdlib_module_names - {"__main__"}
        or "site-packages" in path
        or "dist-packages" in path
    )


def readable(reason: str) -> str:
    """The reason of a Flower error as ``Type: message``, with the user's own line where it is told.

    Flower writes ``<class 'Type'>:<'message'>``; from Ray's workers the message is a traceback.
    """
    text = _ANSI.sub("", reason)
    match = _FLOWER_REASON.search(text)
    if match is None:
        return text.strip()
    kind, message = match["kind"].rpartition(".")[2], match["message"]
    if "Traceback" not in message and "ray::" not in message:
        return f"{kind}: {message}" if message else kind
    own, _, _ = message.partition("The above exception was the direct cause")
    lines = [line for line in own.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if not line.startswith(" ")), lines[-1]).strip()
    frames = [(path, line, name) for path, line, name in _FRAME.findall(own)]
    mine = [frame for frame in frames if not _is_library_path(frame[0])]
    if not mine:
        return last
    path, line, name = mine[-1]
    return f"{last} at {path}:{line} in {name}"


def _is_library_path(path: str) -> bool:
    return path.startswith(_OWN_FOLDERS) or any(part in path for part in _LIBRARY_PATHS)


class AllClientsFailedError(RuntimeError):
    """No client of a round sent a usable reply; going on would change nothing.

    Parameters
    ----------
    round
        The round.
    client, reason
        The first client that failed, in client order, and what it reported.
    n_clients
        How many failed.
    where
        The user's own last line, where the client ran in this process.
    """

    def __init__(
        self, round: int, client: str, reason: str, *, n_clients: int, where: str | None = None
    ) -> None:
        self.round, self.client, self.reason, self.where = round, client, reason, where
        place = "" if where is None else f"\n  at {where}"
        super().__init__(
            f"all {n_clients} clients failed in round {round}; "
            f"the first, client {client}: {reason}{place}"
        )
