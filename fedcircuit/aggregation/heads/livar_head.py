"""LIVAR's head: every class's row is weighted by how much its features vary within a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedcircuit import messages
from fedcircuit.aggregation import NO_STATE, RuleError, Setting, State, Updates
from fedcircuit.aggregation.heads.head import class_counts, find_head, said_by_class, with_rows
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class LivarHead:
    """Head rows weighted by within-class feature variance (LIVAR, arXiv 2507.06813).

    ``W_c = sum_k a_{k,c} W_{k,c}`` with ``a_{k,c} = s_{k,c} / sum_j s_{j,c}``, and the same for the
    bias. s is the unbiased variance of the features of client k's samples of class c, a mean over
    the features: more variance stands for more diverse samples. It is 0 where the client has fewer
    than two samples of the class or does not know it. A class that nobody can score keeps the row
    that the server had before the round.

    Parameters
    ----------
    n0
        Shrinks noisy variances of few samples, ``s <- (n s + n0 m) / (n + n0)``, m being the mean
        of the class over the clients that can score it. 0, as in the paper, does not; 5 is a start.
    clip
        Percentile, in (0, 100], of all variances of the round, above which they are cut before
        they are shrunk: noisy labels and outliers raise a client's weight, and so can an attacker.
        None, as in the paper, does not; 90 is a start.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    name: ClassVar[str] = "livar-head"

    n0: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.n0 < np.inf:
            raise ValueError(f"n0 must be >= 0 samples and finite, got {self.n0}")
        if self.clip is not None and not 0.0 < self.clip <= 100.0:
            raise ValueError(f"clip must be a percentile in (0, 100], got {self.clip}; or None")

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with the head's rows weighted anew; every client must say its variances."""
        head = find_head(average, setting, self.name)
        counts = class_counts(updates, head.n_classes, self.name)
        said = said_by_class(updates, messages.CLASS_VARIANCES, head.n_classes, self.name)
        for update, row in zip(updates.clients, said, strict=True):
            if (row < 0).any() or np.isinf(row).any():
                raise RuleError(
                    self.name,
                    f"{messages.CLASS_VARIANCES!r} must be finite numbers >= 0, or NaN where "
                    f"unknown, got {row.tolist()}",
                    update.client,
                )
        shares = self.shares(said, counts)
        return with_rows(updates, average, head, shares, updates.before), NO_STATE

    def shares(
        self, variances: NDArray[np.float64], counts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """``[clients, classes]``, whose column sums are 1, or 0 for a class nobody can score.

        Parameters
        ----------
        variances
            ``[clients, classes]``, s; NaN where unknown.
        counts
            ``[clients, classes]``, the clients' samples.
        """
        known = (counts >= 2) & ~np.isnan(variances)
        s = np.where(known, variances, 0.0)
        if self.clip is not None and known.any():
            s = np.minimum(s, np.percentile(s[known], self.clip))
        if self.n0 > 0:
            mean = s.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
            s = np.where(known, (counts * s + self.n0 * mean) / (counts + self.n0), 0.0)
        largest = s.max(axis=0)
        s = s / np.where(largest > 0, largest, 1.0)  # sums of very large or small s stay finite
        total = s.sum(axis=0)
        shares: NDArray[np.float64] = s / np.where(total > 0, total, 1.0)
        return shares
