"""Whose a failure of a legacy round is, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flwr.server.client_proxy import ClientProxy

from fedcircuit.strategies.replies import readable, short

LOST = ("lost", "no reply in time")


@dataclass(frozen=True)
class Reasons:
    """What went wrong in a round.

    Parameters
    ----------
    own
        In words, by ``cid``, where it is known whose it is.
    others
        In words, where it is not.
    """

    own: dict[str, str]
    others: tuple[str, ...]

    def of(self, cid: str) -> tuple[str, str]:
        """Kind and reason for a client that was asked and gave no result."""
        if cid in self.own:
            return "error", self.own[cid]
        if len(self.others) > 1:
            words = f"one of these, Flower does not say which: {' | '.join(self.others)}"
            return "error", short(words)
        return ("error", self.others[0]) if self.others else LOST


def reasons_of(failures: Sequence[Any]) -> Reasons:
    """What a round's failures say: exceptions, or results with a bad status."""
    own: dict[str, str] = {}
    others: dict[str, None] = {}
    for failure in failures:
        raised = isinstance(failure, BaseException)
        words = short(readable(str(failure if raised else failure[1].status.message)))
        proxy = _raiser(failure) if raised else failure[0]
        if proxy is None:
            others[words] = None
        else:
            own[proxy.cid] = words
    return Reasons(own, tuple(others))


def _raiser(error: BaseException) -> ClientProxy | None:
    """The proxy in whose method an exception was raised; None where its traceback has none."""
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, ClientProxy):
            return owner
        trace = trace.tb_next
    return None
