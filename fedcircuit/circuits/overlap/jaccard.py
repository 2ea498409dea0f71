"""How much two circuits share: IoU per layer and over all, with its exact chance level.

Undefined is NaN: two empty circuits have no IoU, and a circuit that was not found (which is not
an empty circuit) overlaps with nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedcircuit.circuits import Circuit, Site, site_slices
from fedcircuit.circuits import Masks as Places
from fedcircuit.circuits.overlap.chance import Floats, Ints, beyond_chance, chance_level, quotient

ALL_LAYERS = "all"  # name of the overlap over all layers together
Masks = Tensor | NDArray[np.bool_]


@dataclass(frozen=True)
class Overlap:
    """Overlap of two circuits A and B.

    Parameters
    ----------
    iou
        ``|A and B| / |A or B|`` in [0, 1]; NaN if both are empty.
    chance
        Expected IoU of random circuits with the same sizes in every layer.
    adjusted
        ``(iou - chance) / (1 - chance)``: 0 at chance, 1 if equal, negative below chance; NaN
        where chance is 1 (both circuits hold the whole pool).
    p_value
        Probability that random circuits overlap at least as much; NaN if both are empty.
    size_a, size_b, intersection, pool
        Numbers of units: of A, of B, in both, and to pick from.
    """

    iou: float
    chance: float
    adjusted: float
    p_value: float
    size_a: int
    size_b: int
    intersection: int
    pool: int


@dataclass(frozen=True)
class OverlapTable:
    """Overlaps of many pairs, arrays ``[..., layers + 1]``; the last column is over all layers.

    The fields are those of `Overlap`; counts are float, NaN where a circuit was not found.
    """

    layers: tuple[str, ...]
    iou: Floats
    chance: Floats
    adjusted: Floats
    p_value: Floats
    size_a: Floats
    size_b: Floats
    intersection: Floats
    pool: Floats

    @property
    def n_undefined(self) -> Ints:
        """Pairs without an IoU in each column: not found, or both empty; ``[layers + 1]``."""
        undefined = np.isnan(self.iou).reshape(-1, len(self.layers))
        count: Ints = undefined.sum(0, dtype=np.int64)
        return count

    @property
    def coefficient(self) -> Floats:
        """Overlap coefficient ``|A and B| / min(|A|, |B|)``; NaN where a circuit is empty."""
        return quotient(self.intersection, np.minimum(self.size_a, self.size_b))

    @property
    def coefficient_chance(self) -> Floats:
        """Expected overlap coefficient of random circuits with the same sizes in every layer.

        The mean of the hypergeometric overlap, ``size_a size_b / pool`` in a layer; exact.
        """
        expected = np.divide(
            self.size_a * self.size_b, self.pool, out=self.pool * 0.0, where=self.pool > 0
        )
        expected[..., -1] = expected[..., :-1].sum(-1)
        return quotient(expected, np.minimum(self.size_a, self.size_b))

    def at(self, *index: int) -> dict[str, Overlap] | None:
        """The overlaps of one pair by layer; None where a circuit was not found."""
        if np.isnan(self.pool[index]).any():
            return None
        figures = self.iou, self.chance, self.adjusted, self.p_value
        numbers = self.size_a, self.size_b, self.intersection, self.pool
        shares = np.stack([figure[index] for figure in figures])
        counts = np.stack([number[index] for number in numbers]).astype(int)
        return {
            layer: Overlap(*shares[:, column].tolist(), *counts[:, column].tolist())
            for column, layer in enumerate(self.layers)
        }


@dataclass(frozen=True)
class Side:
    """One side of many comparisons.

    Parameters
    ----------
    masks
        ``[n, units]`` bool, units of all sites concatenated.
    found
        ``[n]`` bool; None if every circuit was found.
    live
        ``[units]`` or ``[n, units]`` bool, the units the circuits could be made of; None is all.
        Units of a circuit outside it do not count. The pool of a pair is what is live on either
        side; that never understates the number of units that two random circuits share, since
        ``|La & Lb| |La | Lb| <= |La| |Lb|``, and is exact where one side holds the other.
    """

    masks: Masks
    found: Masks | None = None
    live: Masks | None = None

    def arrays(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Masks within the live units, found, and live ``[n, units]``."""
        masks = np.asarray(self.masks, dtype=bool)
        live = np.ones(masks.shape[-1:], bool) if self.live is None else np.asarray(self.live, bool)
        live = np.broadcast_to(live, masks.shape)
        found = np.ones(len(masks), bool) if self.found is None else np.asarray(self.found, bool)
        return masks & live, found, live


def iou(a: Circuit, b: Circuit, live: Circuit | None = None) -> Overlap:
    """Overlap of two circuits over all their layers, with its exact chance level.

    Parameters
    ----------
    a, b
        Circuits over the same sites.
    live
        The units that can carry anything (`fedcircuit.circuits.paths.live_units`), as a
        circuit; None takes all units. Units of ``a`` and ``b`` outside it do not count.

    Raises
    ------
    ValueError
        If the circuits do not have the same sites and numbers of units.

    Examples
    --------
    >>> import torch
    >>> a = Circuit({"conv1": torch.tensor([True, True, False, False])})
    >>> b = Circuit({"conv1": torch.tensor([True, False, True, False])})
    >>> overlap = iou(a, b)
    >>> round(overlap.iou, 3), round(overlap.chance, 3)
    (0.333, 0.389)
    """
    return layer_overlaps(a, b, live)[ALL_LAYERS]


def layer_overlaps(a: Places, b: Places, live: Places | None = None) -> dict[str, Overlap]:
    """Overlap of two circuits in every layer, and in all of them together under ``"all"``.

    Takes and raises what `iou` does; of units, or of edges.
    """
    for other in (b, *([] if live is None else [live])):
        if _shape(other.masks) != _shape(a.masks):
            raise ValueError(
                "circuits must have the same sites and numbers of units, "
                f"got {_shape(a.masks)} and {_shape(other.masks)}"
            )
    sites = [Site(name, mask.numel(), 1, name) for name, mask in a.masks.items()]

    def row(circuit: Places) -> NDArray[np.bool_]:
        parts = [mask.flatten().cpu().numpy() for mask in circuit.masks.values()]
        return np.concatenate(parts)[None]

    universe = None if live is None else row(live)
    pairs = paired_overlaps(Side(row(a), live=universe), Side(row(b), live=universe), sites)
    overlaps = pairs.at(0)
    assert overlaps is not None  # both circuits are given, so both were found
    return overlaps


def _shape(masks: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: mask.numel() for name, mask in masks.items()}


def paired_overlaps(a: Side, b: Side, sites: Sequence[Site]) -> OverlapTable:
    """Overlap of row i of ``a`` with row i of ``b``, arrays ``[n, layers + 1]``."""
    masks_a, found_a, live_a = a.arrays()
    masks_b, found_b, live_b = b.arrays()

    def count(units: NDArray[np.bool_]) -> Ints:
        parts = [units[:, part].sum(1) for part in site_slices(sites)]
        return np.stack(parts, axis=1).astype(np.int64)

    every = (masks_a, masks_b, masks_a & masks_b, live_a | live_b)
    return _table(np.stack([count(units) for units in every]), found_a & found_b, sites)


def all_overlaps(a: Side, b: Side, sites: Sequence[Site]) -> OverlapTable:
    """Overlap of every row of ``a`` with every row of ``b``, arrays ``[n, m, layers + 1]``.

    One matrix product for each layer.
    """
    masks_a, found_a, live_a = a.arrays()
    masks_b, found_b, live_b = b.arrays()
    counts = np.empty((4, len(masks_a), len(masks_b), len(sites)), np.int64)
    size_a, size_b, both, pool = counts
    for layer, part in enumerate(site_slices(sites)):
        # float32 counts exactly up to 2 ** 24 units, and its product is fast
        own, other = masks_a[:, part].astype(np.float32), masks_b[:, part].astype(np.float32)
        own_live, other_live = live_a[:, part].astype(np.float32), live_b[:, part].astype("f4")
        size_a[..., layer] = own.sum(1)[:, None]
        size_b[..., layer] = other.sum(1)[None]
        both[..., layer] = own @ other.T
        either = own_live.sum(1)[:, None] + other_live.sum(1)[None]
        pool[..., layer] = either - own_live @ other_live.T
    return _table(counts, found_a[:, None] & found_b[None], sites)


def _table(counts: Ints, found: NDArray[np.bool_], sites: Sequence[Site]) -> OverlapTable:
    """The table of sizes of A and B, intersections and pools: ``[4, ..., layers]``."""
    summed = np.concatenate([counts, counts.sum(-1, keepdims=True)], axis=-1)
    size_a, size_b, both, _ = summed
    columns = [_chance(counts, slice(i, i + 1), found) for i in range(len(sites))]
    columns.append(_chance(counts, slice(None), found))
    chance = np.stack([expected for expected, _ in columns], axis=-1)
    p_value = np.stack([p for _, p in columns], axis=-1)
    ratio = np.where(found[..., None], quotient(both, size_a + size_b - both), np.nan)
    layers = (*(site.name for site in sites), ALL_LAYERS)
    known = np.where(found[..., None], summed, np.nan)  # sizes, intersection and pool
    return OverlapTable(layers, ratio, chance, beyond_chance(ratio, chance), p_value, *known)


def _chance(counts: Ints, part: slice, found: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    expected = np.full(found.shape, np.nan)
    p_value = np.full(found.shape, np.nan)
    if found.any():
        size_a, size_b, both, pool = counts[:, found][..., part]
        level = chance_level(pool, size_a, size_b, both.sum(-1))
        expected[found], p_value[found] = level.expected, level.p_value
    return expected, p_value
