"""TIES: trim what moved little, elect a sign for every entry, average those that agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedcircuit.aggregation import (
    NO_STATE,
    Floats,
    Setting,
    State,
    Updates,
    in_float64,
    kept_entries,
    moved,
    result,
    trained,
)
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class Ties:
    """Trim, elect sign, merge (Yadav et al. 2023, arXiv 2306.01708).

    Of every client's movement the largest entries are kept; an entry's sign is that of the
    share-weighted sum of what is kept; the mean over the clients that keep it with this sign is
    added to the weights before the round. Running statistics stay those of the average.

    Parameters
    ----------
    keep
        Share of the entries of a client that are kept, in (0, 1]; 1 trims nothing.
    scale
        What the merged movement is multiplied by, > 0.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    name: ClassVar[str] = "ties"

    keep: float = 0.2
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.keep <= 1.0:
            raise ValueError(f"keep must lie in (0, 1], got {self.keep}")
        if not self.scale > 0.0:
            raise ValueError(f"scale must be > 0, got {self.scale}")

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The weights before the round plus the merged movement."""
        names = trained(updates.clients[0].weights, setting)
        trimmed = [
            self._trimmed({name: moved(updates, update, name) for name in names})
            for update in updates.clients
        ]
        changed = {
            name: in_float64(updates.before, name)
            + self.scale * merged(np.stack([own[name] for own in trimmed]), updates.shares)
            for name in names
        }
        return result(average, changed), NO_STATE

    def _trimmed(self, movement: dict[str, Floats]) -> dict[str, Floats]:
        kept = kept_entries({name: np.abs(v) for name, v in movement.items()}, self.keep, "global")
        return {name: np.where(kept[name], values, 0.0) for name, values in movement.items()}


def merged(movements: Floats, shares: Floats) -> Floats:
    """Share-weighted mean ``[...]`` over the clients whose entry has the elected sign; else 0.

    Parameters
    ----------
    movements
        ``[clients, ...]``; entries that are 0 take no part.
    shares
        ``[clients]``.
    """
    weights = shares.reshape(-1, *[1] * (movements.ndim - 1))
    elected = np.sign((weights * movements).sum(axis=0))
    agree = np.sign(movements) == elected
    total = (weights * agree).sum(axis=0)
    mean: Floats = (weights * agree * movements).sum(axis=0) / np.where(total > 0, total, 1.0)
    return mean
