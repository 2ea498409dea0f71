"""Overlap of scores instead of circuits: weighted IoU, with its chance level and no threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedcircuit.circuits import Site, site_slices
from fedcircuit.circuits.overlap.chance import Floats, Ints, beyond_chance
from fedcircuit.circuits.overlap.jaccard import ALL_LAYERS, Masks

_BLOCK = 64  # pairs whose matrices of minima are held in memory at once
Scores = Tensor | Floats


@dataclass(frozen=True)
class ScoredSide:
    """One side of many comparisons of scores.

    Parameters
    ----------
    scores
        ``[n, units]``, units of all sites concatenated; larger is more important. Scores of zero
        and below weigh nothing. A row with a NaN is a class without scores.
    live
        ``[units]`` or ``[n, units]`` bool as in `fedcircuit.circuits.overlap.Side`; None is all.
    """

    scores: Scores
    live: Masks | None = None

    def arrays(self) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Positive scores of live units, rows that have scores, and live ``[n, units]``."""
        scores = np.asarray(self.scores, dtype=np.float64)
        live = (
            np.ones(scores.shape[-1:], bool) if self.live is None else np.asarray(self.live, bool)
        )
        live = np.broadcast_to(live, scores.shape)
        known: NDArray[np.bool_] = np.logical_not(np.isnan(scores).any(axis=-1))
        weighs = live & (scores > 0) & known[:, None]
        return np.where(weighs, scores, 0.0), known, live


@dataclass(frozen=True)
class SoftOverlapTable:
    """Weighted overlaps of pairs, ``[pairs, layers + 1]``; the last column is over all layers.

    Parameters
    ----------
    layers
        Names of the columns.
    shared
        ``sum_u min(w_a, w_b)`` of weights that sum to 1: the mass that both have in common.
    shared_chance
        Its expectation if the units of every layer are shuffled: exact.
    iou
        ``sum_u min(w_a, w_b) / sum_u max(w_a, w_b)``, the Ruzicka index, in [0, 1].
    chance
        Its expectation under the same shuffling, to second order.
    adjusted
        ``(iou - chance) / (1 - chance)``.
    """

    layers: tuple[str, ...]
    shared: Floats
    shared_chance: Floats
    iou: Floats
    chance: Floats
    adjusted: Floats

    @property
    def n_undefined(self) -> Ints:
        """Pairs without a weighted IoU in each column, ``[layers + 1]``."""
        count: Ints = np.isnan(self.iou).sum(0)
        return count


def weighted_overlaps(a: ScoredSide, b: ScoredSide, sites: Sequence[Site]) -> SoftOverlapTable:
    """Weighted IoU of row i of ``a`` with row i of ``b``, in every layer and over all of them.

    Weights are the positive scores divided by their sum, over the layer for a layer's column and
    over all units for the last, so that the scale of the scores does not count. Both sums follow
    from one, the shared mass ``m``: IoU is ``m / (2 - m)``. NaN where a row has no positive score
    in the layer, on either side: it then has no weights.

    The chance level is what is expected when the units of every layer are shuffled among those
    live on either side. Mean and variance of ``m`` are then known exactly (Hoeffding 1951, Ann.
    Math. Stat. 22, 558-566): with ``c_ij = min(a_i, b_j)``, ``E m = sum c_ij / n`` and
    ``Var m = sum (c_ij - c_i. - c_.j + c_..)^2 / (n - 1)``; layers are independent, so both add.
    The expected IoU is ``f(E m) + f''(E m) Var m / 2`` with ``f(m) = m / (2 - m)``: not exact,
    but within 0.0004 of the mean of 20,000 shuffles for scores of 224 units, flat or heavy-tailed.

    Raises
    ------
    ValueError
        If the two sides differ in shape or do not fit the sites.
    """
    scores_a, known_a, live_a = a.arrays()
    scores_b, known_b, live_b = b.arrays()
    n_units = sum(site.n_units for site in sites)
    if scores_a.shape != scores_b.shape or scores_a.shape[-1] != n_units:
        raise ValueError(
            f"scores must both be [pairs, {n_units}] ({n_units} units in the sites), "
            f"got {scores_a.shape} and {scores_b.shape}"
        )
    known, pool = known_a & known_b, live_a | live_b
    parts = site_slices(sites)
    columns = [
        _masses(scores_a[:, part], scores_b[:, part], pool[:, part], (slice(None),), known)
        for part in parts
    ]
    columns.append(_masses(scores_a, scores_b, pool, parts, known))
    shared, mean, variance = (np.stack(field, axis=-1) for field in zip(*columns, strict=True))
    chance = np.minimum(mean / (2 - mean) + 2 * variance / (2 - mean) ** 3, 1.0)
    iou, layers = shared / (2 - shared), (*(site.name for site in sites), ALL_LAYERS)
    return SoftOverlapTable(layers, shared, mean, iou, chance, beyond_chance(iou, chance))


def _masses(
    a: Floats, b: Floats, pool: NDArray[np.bool_], parts: Sequence[slice], known: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    """Shared mass of weights that sum to 1 over the given units, shuffled within each part.

    The mass, and its mean and variance by chance, ``[pairs]`` each; NaN where a side has no
    weights, or the pair is not known.
    """
    total_a, total_b = a.sum(1, keepdims=True), b.sum(1, keepdims=True)
    own = np.divide(a, total_a, out=np.zeros_like(a), where=total_a > 0)
    other = np.divide(b, total_b, out=np.zeros_like(b), where=total_b > 0)
    mean, variance = np.zeros(len(a)), np.zeros(len(a))
    for part in parts:
        for start in range(0, len(a), _BLOCK):
            rows = slice(start, start + _BLOCK)
            moments = _moments(own[rows, part], other[rows, part], pool[rows, part].sum(1))
            mean[rows] += moments[0]
            variance[rows] += moments[1]
    defined = ((total_a > 0) & (total_b > 0))[:, 0] & known
    shared = np.minimum(own, other).sum(1)
    shared, mean, variance = (np.where(defined, x, np.nan) for x in (shared, mean, variance))
    return shared, mean, variance


def _moments(a: Floats, b: Floats, n: Ints) -> tuple[Floats, Floats]:
    """Mean and variance of the shared mass over all orders of the ``n`` units of a pool.

    Units outside the pool weigh nothing, so their rows and columns of minima are zero.
    """
    least = np.minimum(a[:, :, None], b[:, None, :])  # [pairs, units, units]
    rows, columns = least.sum(2), least.sum(1)
    total = rows.sum(1)
    size = np.maximum(n, 1).astype(np.float64)
    squares = (
        (least**2).sum((1, 2))
        - ((rows**2).sum(1) + (columns**2).sum(1)) / size
        + (total / size) ** 2
    )
    return total / size, np.maximum(squares, 0.0) / np.maximum(size - 1, 1)
