"""Conflict projection: where two clients pull a shared unit apart, neither undoes the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedcircuit.aggregation import (
    NO_STATE,
    Floats,
    Setting,
    State,
    Updates,
    circuits_of,
    in_float64,
    moved,
    result,
)
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class ConflictProjection:
    """Circuit-gated conflict projection (ours; after PCGrad, arXiv 2001.06782).

    For every pair of clients and every unit in circuits of both whose movements D (of its incoming
    weights and bias) point against each other, ``D_k -= <D_k, D_j> / |D_j|^2 D_j / (K - 1)``, all
    pairs from the original D at once. What this changes in the share-weighted mean is added to the
    average; without a conflict that is nothing, bit for bit. It costs O(K^2 P), and has shown no
    gain over averaging; the control is ``everywhere``.

    Parameters
    ----------
    everywhere
        Project all units, whether in circuits or not.
    """

    name: ClassVar[str] = "conflict-projection"

    everywhere: bool = False

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average without the parts of movements that undo each other."""
        masks, spans = circuits_of(self.name, updates, setting)
        if len(updates.clients) == 1:
            return average, NO_STATE
        changed: dict[str, Floats] = {}
        for span in spans:
            names = tuple(span.tensors(updates))
            if not names:
                continue
            flat = [
                np.stack([moved(updates, u, name).reshape(span.stop - span.start, -1)
                          for u in updates.clients])
                for name in names
            ]  # fmt: skip
            movement = np.concatenate(flat, axis=2)  # [clients, units, entries]
            owns = np.asarray(span.of(masks).any(axis=1) | self.everywhere)  # [clients, units]
            change = np.tensordot(updates.shares, projection(movement, owns), axes=1)
            ends = np.cumsum([part.shape[2] for part in flat])[:-1]
            for name, part in zip(names, np.split(change, ends, axis=1), strict=True):
                if part.any():
                    changed[name] = in_float64(average, name) + part.reshape(average[name].shape)
        return result(average, changed), NO_STATE


def projection(movement: Floats, owns: NDArray[np.bool_]) -> Floats:
    """What is added to each movement, ``[clients, units, entries]``.

    Parameters
    ----------
    movement
        ``[clients, units, entries]``.
    owns
        ``[clients, units]``: whether a unit is in a circuit of the client.
    """
    dots = np.einsum("kue,jue->ukj", movement, movement)
    both = np.einsum("ku,ju->ukj", owns, owns)
    squares = np.einsum("jue,jue->uj", movement, movement)[:, None, :]
    conflict = both & (dots < 0.0)
    factors = np.where(conflict, dots / np.where(squares > 0, squares, 1.0), 0.0)
    change: Floats = -np.einsum("ukj,jue->kue", factors, movement) / (len(movement) - 1)
    return change
