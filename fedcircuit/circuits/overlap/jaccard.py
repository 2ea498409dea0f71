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
from fedcircuit.circuits.overlap.chance import Floats, Ints, chance_level

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
        return _ratio(self.intersection, np.minimum(self.size_a, self.size_b))

    @property
    def coefficient_chance(self) -> Floats:
        """Expected overlap coefficient of random circuits with the same sizes in every layer.

        The mean of the hypergeometric overlap, ``size_a size_b / pool`` in a layer; exact.
        """
        expected = np.divide(
            self.size_a * self.size_b, self.pool, out=self.pool * 0.0, where=self.pool > 0
        )
        expected[..., -1] = expected[..., :-1].sum(-1)
        return _ratio(expected, np.minimum(self.size_a, self.size_b))

    def at(self, *index: int) -> dict[str, Overlap] | None:
        """The overlaps of one pair by layer; None where a circuit was not found."""
        if np.isnan(self.pool[index]).any():
            return None
        return {
            layer: Overlap(
                iou=float(self.iou[index][column]),
                chance=float(self.chance[index][column]),
                adjusted=float(self.adjusted[index][column]),
                p_value=float(self.p_value[index][column]),
                size_a=int(self.size_a[index][column]),
                size_b=int(self.size_b[index][column]),
                intersection=int(self.intersection[index][column]),
                pool=int(self.pool[index][column]),
            )
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


def layer_overlaps(a: Circuit, b: Circuit, live: Circuit | None = None) -> dict[str, Overlap]:
    """Overlap of two circuits in every layer, and in all of them together under ``"all"``.

    Takes and raises what `iou` does.
    """
    for other in (b, *([] if live is None else [live])):
        if _shape(other.masks) != _shape(a.masks):
            raise ValueError(
                "circuits must have the same sites and numbers of units, "
                f"got {_shape(a.masks)} and {_shape(other.masks)}"
            )
    sites = [Site(name, mask.numel(), 1, name) for name, mask in a.masks.items()]

    def row(circuit: Circuit) -> NDArray[np.bool_]:
        return np.concatenate([mask.cpu().numpy() for mask in circuit.masks.values()])[None]

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

    counts = _Counts(
        count(masks_a), count(masks_b), count(masks_a & masks_b), count(live_a | live_b)
    )
    return _table(counts, found_a & found_b, sites)


def all_overlaps(a: Side, b: Side, sites: Sequence[Site]) -> OverlapTable:
    """Overlap of every row of ``a`` with every row of ``b``, arrays ``[n, m, layers + 1]``.

    One matrix product for each layer.
    """
    masks_a, found_a, live_a = a.arrays()
    masks_b, found_b, live_b = b.arrays()
    shape = (len(masks_a), len(masks_b), len(sites))
    counts = _Counts(*(np.empty(shape, np.int64) for _ in range(4)))
    for layer, part in enumerate(site_slices(sites)):
        # float32 counts exactly up to 2 ** 24 units, and its product is fast
        own, other = masks_a[:, part].astype(np.float32), masks_b[:, part].astype(np.float32)
        own_live, other_live = live_a[:, part].astype(np.float32), live_b[:, part].astype("f4")
        counts.size_a[..., layer] = own.sum(1)[:, None]
        counts.size_b[..., layer] = other.sum(1)[None]
        counts.intersection[..., layer] = own @ other.T
        counts.pool[..., layer] = (
            own_live.sum(1)[:, None] + other_live.sum(1)[None] - own_live @ other_live.T
        )
    return _table(counts, found_a[:, None] & found_b[None], sites)


@dataclass(frozen=True)
class _Counts:
    """Numbers of units ``[..., layers]``."""

    size_a: Ints
    size_b: Ints
    intersection: Ints
    pool: Ints


def _table(counts: _Counts, found: NDArray[np.bool_], sites: Sequence[Site]) -> OverlapTable:
    fields = (counts.size_a, counts.size_b, counts.intersection, counts.pool)
    size_a, size_b, both, pool = (
        np.concatenate([field, field.sum(-1, keepdims=True)], axis=-1) for field in fields
    )
    columns = [_chance(counts, slice(i, i + 1), found) for i in range(len(sites))]
    columns.append(_chance(counts, slice(None), found))
    chance = np.stack([expected for expected, _ in columns], axis=-1)
    p_value = np.stack([p for _, p in columns], axis=-1)
    union = size_a + size_b - both
    undefined = ~found[..., None]
    ratio = _ratio(both, union)
    ratio[np.broadcast_to(undefined, ratio.shape)] = np.nan
    room = 1 - chance
    # chance is 1 up to rounding exactly where both circuits are forced to be equal
    adjusted = np.divide(
        ratio - chance, room, out=np.full(union.shape, np.nan), where=np.abs(room) > 1e-12
    )

    def known(field: Ints) -> Floats:
        return np.where(undefined, np.nan, field)

    return OverlapTable(
        layers=(*(site.name for site in sites), ALL_LAYERS),
        iou=ratio,
        chance=chance,
        adjusted=adjusted,
        p_value=p_value,
        size_a=known(size_a),
        size_b=known(size_b),
        intersection=known(both),
        pool=known(pool),
    )


def _ratio(part: Floats | Ints, whole: Floats | Ints) -> Floats:
    """Quotient, NaN where the whole is zero or NaN."""
    result: Floats = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _chance(counts: _Counts, part: slice, found: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    expected = np.full(found.shape, np.nan)
    p_value = np.full(found.shape, np.nan)
    if found.any():
        level = chance_level(
            counts.pool[found][:, part],
            counts.size_a[found][:, part],
            counts.size_b[found][:, part],
            counts.intersection[found][:, part].sum(-1),
        )
        expected[found], p_value[found] = level.expected, level.p_value
    return expected, p_value
