"""Head rows by class count: a class's row is averaged over those who have its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedcircuit import messages
from fedcircuit.aggregation.heads.linear_head import linear_head
from fedcircuit.aggregation.rule import NO_STATE, Setting, State, Updates
from fedcircuit.aggregation.tensors import class_shares, result, said_counts
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class ClassCountHead:
    """Rows of the last layer weighted by samples of their class.

    ``W_c = sum_k n_{k,c} / sum_j n_{j,c} W_{k,c}``, with its bias; the body stays the average's, as
    do the rows of classes that no client of the round has.
    """

    name: ClassVar[str] = "class-count-head"

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with other head rows; every client must say its class counts."""
        head = linear_head(self.name, updates.before, setting)
        rows = head.rows(average)
        counts = said_counts(
            self.name, updates, messages.CLASS_COUNTS, "its class counts", len(rows)
        )
        shares = class_shares(updates, counts)
        theirs = np.stack([head.rows(update.weights) for update in updates.clients])
        known = counts.sum(axis=0) > 0
        rows[known] = np.einsum("kc,kcd->cd", shares, theirs)[known]
        return result(average, head.tensors(rows)), NO_STATE
