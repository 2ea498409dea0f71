"""Which replies of a round enter the average, and why the others do not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from fedcircuit.learning import Weights
from fedcircuit.records.rounds import GLOBAL, Failure
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.replies import (
    Dtypes,
    Limits,
    Reply,
    agreed,
    client_order,
    differing,
    fault_of,
    shared_metrics,
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
    taken
        Those that the strategy is handed: the good ones or, where replies are not to be checked,
        all that can be read.
    failures
        Why the others do not, and what the round lacks.
    metrics
        Names of the metrics that the strategy is handed; None: all.
    remarks
        In words, what differs and is averaged all the same.
    """

    good: tuple[int, ...]
    taken: tuple[int, ...]
    failures: tuple[Failure, ...]
    metrics: frozenset[str] | None = None
    remarks: tuple[str, ...] = ()

    def say(self, number: int) -> None:
        """Log what is set aside in this round, and what differs."""
        for fault in self.failures:
            if fault.client == GLOBAL:
                logger.error("round %d: %s", number, fault.reason)
                continue
            logger.warning(
                "round %d: client %s is set aside (%s): %s",
                number, fault.client, fault.kind, fault.reason,
            )  # fmt: skip
        for remark in self.remarks:
            logger.warning("round %d: %s", number, remark)


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
    shared = shared_metrics([replies[i] for i in good])
    faults.update({good[place]: fault for place, fault in shared.faults.items()})
    failures = [*faults.values(), shared.split]
    good = [i for i in good if faults[i] is None]
    readable = [i for i in order if replies[i].error is None]
    return Judged(
        good=tuple(good),
        taken=tuple(good if options.check_replies else readable),
        failures=tuple(fault for fault in failures if fault is not None),
        metrics=shared.names if options.check_replies else None,
        remarks=tuple(filter(None, (_words(template, sent), shared.left_out))),
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
