"""What goes wrong in clients, in words a person can act on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType

LIBRARIES = {"fedcircuit", "flwr", "ray", "torch", "numpy"}


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
