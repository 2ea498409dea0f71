"""What circuits of different classes share: the class-swap null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fedcircuit.circuits import Site
from fedcircuit.circuits.overlap.chance import Floats, Ints, quotient
from fedcircuit.circuits.overlap.jaccard import Side, all_overlaps


@dataclass(frozen=True)
class ModelMasks:
    """The circuits of several models for the same classes.

    Parameters
    ----------
    masks
        ``[models, classes, units]`` bool, units of all sites concatenated.
    found
        ``[models, classes]`` bool; None if every circuit was found.
    live
        ``[models, units]`` bool; None takes all units.

    Raises
    ------
    ValueError
        If a shape does not fit.
    """

    masks: Tensor
    found: Tensor | None = None
    live: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.masks.shape)
        if len(shape) != 3:
            raise ValueError(f"masks must be [models, classes, units], got {shape}")
        if self.found is not None and tuple(self.found.shape) != shape[:2]:
            raise ValueError(f"found must be {shape[:2]}, got {tuple(self.found.shape)}")
        if self.live is not None and tuple(self.live.shape) != (shape[0], shape[2]):
            raise ValueError(f"live must be {(shape[0], shape[2])}, got {tuple(self.live.shape)}")

    def side(self) -> Side:
        """All circuits in one row each, ``[models * classes, units]``."""
        n_classes = self.masks.shape[1]
        return Side(
            self.masks.flatten(0, 1),
            None if self.found is None else self.found.flatten(),
            None if self.live is None else self.live.repeat_interleave(n_classes, dim=0),
        )


@dataclass(frozen=True)
class ClassSwap:
    """Chance-adjusted IoU of a class with itself and with the others, in every pair of models.

    Parameters
    ----------
    layers
        Names of the last axis.
    same
        ``[models_a, models_b, classes, layers + 1]``: class c in A against class c in B.
    swapped
        The same shape: class c in A against the other classes in B, mean over those defined.
    swapped_max
        The same shape: the largest of those.
    n_swapped
        The same shape: how many of the ``classes - 1`` others are in that mean.
    """

    layers: tuple[str, ...]
    same: Floats
    swapped: Floats
    swapped_max: Floats
    n_swapped: Ints


def class_swap(a: ModelMasks, b: ModelMasks, sites: Sequence[Site]) -> ClassSwap:
    """The class-swap null: how much the circuits of two models overlap whatever the class.

    Units that every class uses overlap between models for any pair of classes; what is shared
    because of the class is ``same`` beyond ``swapped``. All pairs come from one matrix product a
    layer.

    Raises
    ------
    ValueError
        If the numbers of classes differ.
    """
    n_classes = a.masks.shape[1]
    if b.masks.shape[1] != n_classes:
        raise ValueError(f"both need the same classes, got {n_classes} and {b.masks.shape[1]}")
    table = all_overlaps(a.side(), b.side(), sites)
    shape = (len(a.masks), n_classes, len(b.masks), n_classes, len(table.layers))
    adjusted = np.moveaxis(table.adjusted.reshape(shape), 2, 1)  # [A, B, c, c', layers + 1]
    index = np.arange(n_classes)
    others = np.where(np.eye(n_classes, dtype=bool)[..., None], np.nan, adjusted)
    n_swapped = (~np.isnan(others)).sum(3)
    swapped = quotient(np.nansum(others, axis=3), n_swapped)
    largest = np.where(np.isnan(others), -np.inf, others).max(axis=3)
    highest = np.where(n_swapped > 0, largest, np.nan)
    return ClassSwap(table.layers, adjusted[:, :, index, index], swapped, highest, n_swapped)
