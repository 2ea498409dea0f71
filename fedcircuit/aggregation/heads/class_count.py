"""Head rows by class count: a class's row is averaged over those who have its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedcircuit.aggregation import NO_STATE, Setting, State, Updates, class_shares
from fedcircuit.aggregation.heads.head import class_counts, find_head, with_rows
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
        head = find_head(updates.before, setting, self.name)
        shares = class_shares(class_counts(updates, head.n_classes, self.name))
        return with_rows(updates, average, head, shares, average), NO_STATE
