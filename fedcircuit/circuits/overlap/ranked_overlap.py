"""Agreement of two rankings of units, the best of them counting most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcircuit.circuits import Site, site_slices
from fedcircuit.circuits.overlap.chance import Floats, Ints, beyond_chance
from fedcircuit.circuits.overlap.weighted_iou import ScoredSide
from fedcircuit.ranges import require_between


@dataclass(frozen=True)
class RankAgreement:
    """Rank-biased overlap of pairs, ``[pairs]`` each; NaN where a row has no positive score.

    Parameters
    ----------
    overlap
        In [0, 1], 1 for the same order.
    chance
        Its expectation if the units of every layer are shuffled: exact.
    adjusted
        ``(overlap - chance) / (1 - chance)``.
    """

    overlap: Floats
    chance: Floats
    adjusted: Floats


def rank_biased_overlap(
    a: ScoredSide, b: ScoredSide, sites: Sequence[Site], *, persistence: float = 0.9
) -> RankAgreement:
    """Agreement of the rankings of row i of ``a`` and row i of ``b``, the top counting most.

    With ``X_d`` the units that are in both top d, ``p`` the persistence and k the depth,
    ``RBO = X_k / k p^k + (1 - p) / p sum_{d <= k} X_d / d p^d`` (Webber, Moffat and Zobel 2010,
    ACM Trans. Inf. Syst. 28(4), equation 32). Depth d weighs ``p ** d``; about ``1 / (1 - p)``
    units matter. The depth k is the number of units with a positive score on both sides, whichever
    is less.

    Parameters
    ----------
    a, b
        Scores ``[pairs, units]``; equal ones rank in the order of the units.
    sites
        Chance shuffles the units of each site among those live on either side.
    persistence
        In (0, 1).

    Raises
    ------
    ValueError
        If the persistence is out of range or the sides differ in shape.
    """
    require_between("(0, 1)", persistence=persistence)
    scores_a, known_a, live_a = a.arrays()
    scores_b, known_b, live_b = b.arrays()
    if scores_a.shape != scores_b.shape:
        raise ValueError(f"scores must have one shape, got {scores_a.shape} and {scores_b.shape}")
    rank_a, rank_b = _ranks(scores_a), _ranks(scores_b)
    depth = np.minimum((scores_a > 0).sum(1), (scores_b > 0).sum(1))
    depth = np.where(known_a & known_b, depth, 0)
    expected = np.zeros(rank_a.shape)
    for part in site_slices(sites):
        n = np.maximum((live_a | live_b)[:, part].sum(1), 1)[:, None]
        expected += (
            _within(rank_a[:, part], rank_a.shape) * _within(rank_b[:, part], rank_b.shape) / n
        )
    overlap = _weighted(_within(np.maximum(rank_a, rank_b), rank_a.shape), depth, persistence)
    chance = _weighted(expected, depth, persistence)
    return RankAgreement(overlap, chance, beyond_chance(overlap, chance))


def _ranks(scores: Floats) -> Ints:
    """Place of every unit, from 0 for the best."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.argsort(order, axis=1, kind="stable").astype(np.int64)


def _within(ranks: Ints, shape: tuple[int, ...]) -> Floats:
    """Units whose rank is among the first d, for d = 1, 2, ...: ``[pairs, units]``."""
    counts = np.zeros(shape)
    np.add.at(counts, (np.arange(len(ranks))[:, None], ranks), 1.0)
    return counts.cumsum(1)


def _weighted(shared: Floats, depth: Ints, persistence: float) -> Floats:
    d = np.arange(1, shared.shape[1] + 1)
    agreement = shared / d
    used: NDArray[np.bool_] = d <= depth[:, None]
    series = (np.where(used, agreement * persistence**d, 0.0)).sum(1)
    last = np.take_along_axis(agreement, np.maximum(depth, 1)[:, None] - 1, 1)[:, 0]
    value = last * persistence**depth + (1 - persistence) / persistence * series
    result: Floats = np.where(depth > 0, value, np.nan)
    return result
