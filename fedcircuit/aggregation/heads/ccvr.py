"""CCVR: the head is fitted anew on features drawn from every class's Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fedcircuit.aggregation import NO_STATE, Floats, RuleError, Setting, State, Updates, result
from fedcircuit.aggregation.heads.head import find_head
from fedcircuit.aggregation.heads.moments import pooled_moments
from fedcircuit.aggregation.heads.refit import Refit, rows_of, tensors_of
from fedcircuit.learning import Weights, derived_seed

_STREAM = "ccvr"


@dataclass(frozen=True)
class CCVR:
    """Classifier calibration with virtual representations (Luo et al. 2021, arXiv 2106.05001).

    Class moments of the head's inputs, pooled exactly from the clients or taken on the probe at the
    averaged body, give a Gaussian each; the head goes on from the average on class-balanced draws.
    The body is not touched. Class moments tell of the clients' data.

    Parameters
    ----------
    every
        Fit in every round that this divides; 0: in the last alone.
    last
        Number of the last round, where the head is fitted in any case; None where it is not known.
    refit
        How: by default as in the runs that the documentation tells of.

    Raises
    ------
    ValueError
        If a number is out of range, or the head would never be fitted.
    """

    name: ClassVar[str] = "ccvr"

    every: int = 1
    last: int | None = None
    refit: Refit = field(default_factory=Refit)

    def __post_init__(self) -> None:
        check_rounds(self.every, self.last)

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with a head that is fitted anew, in the rounds that have one."""
        if not is_due(updates.round, self.every, self.last):
            return average, NO_STATE
        return calibrated(self.name, self.refit, updates, average, setting), NO_STATE


def check_rounds(every: int, last: int | None) -> None:
    """Refuse rounds that are none.

    Raises
    ------
    ValueError
        If a number is out of range, or there is no round at all.
    """
    if every < 0 or (last is not None and last < 1):
        raise ValueError(f"every must be >= 0 and last >= 1, got {every} and {last}")
    if every == 0 and last is None:
        raise ValueError("every=0 fits the head in the last round alone: give its number as last")


def is_due(number: int, every: int, last: int | None) -> bool:
    """Whether the head is fitted in a round."""
    return number == last or (every > 0 and number % every == 0)


def calibrated(
    rule: str, refit: Refit, updates: Updates, average: Weights, setting: Setting,
    pull: Floats | None = None,
) -> Weights:  # fmt: skip
    """The average with its head fitted anew; ``pull`` as for :meth:`Refit.rows`.

    Raises
    ------
    RuleError
        If there is no linear head, no moments, or no class with samples.
    """
    head = find_head(updates.before, setting, rule)
    moments = pooled_moments(rule, updates, average, setting, head.weight)
    if not moments.n.sum():
        raise RuleError(rule, "needs class moments of at least one sample, got none")
    seed = derived_seed(setting.seed, _STREAM, updates.round)
    start = rows_of(average, head)
    rows = refit.rows(start, moments, seed, pull=pull, bias=head.bias is not None)
    if not np.isfinite(rows).all():
        raise RuleError(rule, f"the fit ran away with lr {refit.lr}; give a smaller one")
    return result(average, tensors_of(rows, head))
