"""Which replies of a round enter the average, and why the others do not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from fedcircuit.learning import Weights
from fedcircuit.records.rounds import Failure
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.replies import (
    Dtypes,
    Limits,
    Reply,
    agreed,
    client_order,
    differing,
    fault_of,
    odd_ones,
    short,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """Positions among the replies of a round, in the order of clients.

    Parameters
    ----------
    good
        Those that may enter the average.
    readable
        Those without an error of their own, fit or not.
    failures
        Why the others do not.
    differs
        How the good ones agree on something else than the weights sent; empty where they do not.
    """

    good: tuple[int, ...]
    readable: tuple[int, ...]
    failures: tuple[Failure, ...]
    differs: str = ""

    def warn(self, number: int) -> None:
        """Say in the log of a round who is set aside and what differs."""
        for fault in self.failures:
            logger.warning(
                "round %d: client %s is set aside (%s): %s",
                number, fault.client, fault.kind, fault.reason,
            )  # fmt: skip
        if self.differs:
            logger.warning("round %d: %s", number, self.differs)


def judge(
    replies: Sequence[Reply], sent: Weights, options: RecorderOptions, initial: Dtypes
) -> Judged:
    """Judge every reply by what was sent, or by what the clients agree on.

    Parameters
    ----------
    replies
        Of one round, in any order.
    sent
        The weights the clients were sent.
    options
        For the largest numbers that are taken.
    initial
        Dtypes of the run's initial weights.
    """
    order = sorted(range(len(replies)), key=lambda i: (client_order(replies[i].client), i))
    limits = Limits(options.max_num_examples, options.max_abs_weight)
    template, dtypes = agreed([replies[i] for i in order], sent, initial)
    faults = {i: fault_of(replies[i], template, limits, dtypes) for i in order}
    good = [i for i in order if faults[i] is None]
    odd = odd_ones([replies[i] for i in good])
    faults.update({good[place]: fault for place, fault in odd.items()})
    return Judged(
        good=tuple(i for i in good if faults[i] is None),
        readable=tuple(i for i in order if replies[i].error is None),
        failures=tuple(fault for fault in faults.values() if fault is not None),
        differs=_words(template, sent),
    )


def _words(template: Weights, sent: Weights) -> str:
    if template is sent:
        return ""
    kept, other = differing(template, sent)
    parts = []
    if kept:
        parts.append(f"all replies leave out {kept}: clients keep them for themselves")
    if other:
        parts.append(f"all replies send {other} otherwise than they were sent, or in addition")
    return short("; ".join(parts)) + ". They are averaged as the strategy alone would"
