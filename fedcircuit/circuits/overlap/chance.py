"""The overlap that two circuits of given sizes have by chance, exactly.

A random circuit keeps the number of units it has in each layer and picks them uniformly from that
layer's pool. The overlap in one layer is hypergeometric, the overlap over all layers the sum of
independent ones, so its distribution is their convolution: no simulation, no approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcircuit.circuits.overlap.distributions import hypergeometric

_BLOCK = 2048  # pairs whose distributions are held in memory at once

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def quotient(part: Floats | Ints, whole: Floats | Ints) -> Floats:
    """``part / whole``, NaN where the whole is not above zero."""
    result: Floats = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def beyond_chance(value: Floats, chance: Floats) -> Floats:
    """``(value - chance) / (1 - chance)``, NaN where chance is 1.

    It is 1 up to rounding exactly where both sides are forced to be equal.
    """
    room, result = 1 - chance, np.full(chance.shape, np.nan)
    np.divide(value - chance, room, out=result, where=np.abs(room) > 1e-12)
    return result


@dataclass(frozen=True)
class ChanceLevel:
    """What chance gives for each pair, and how surprising the observed overlap is.

    Parameters
    ----------
    expected
        ``[pairs]``, expected IoU of two random circuits of these sizes; NaN where both are empty.
    p_value
        ``[pairs]``, probability of an overlap at least as large; NaN where both are empty.
    """

    expected: Floats
    p_value: Floats


def chance_level(pool: Ints, size_a: Ints, size_b: Ints, observed: Ints) -> ChanceLevel:
    """Expected IoU and p-value of overlaps over all layers together.

    ``E[J] = sum_i P(i) i / (|A| + |B| - i)`` and ``p = P(overlap >= observed)``, with P the
    convolution over layers of ``Hypergeometric(pool, size_a, size_b)``.

    Parameters
    ----------
    pool, size_a, size_b
        ``[pairs, layers]``: units to pick from and units picked, layer by layer.
    observed
        ``[pairs]``: units in both circuits, over all layers.

    Raises
    ------
    ValueError
        If a circuit is larger than the pool of its layer.
    """
    if np.any(size_a > pool) or np.any(size_b > pool) or np.any(size_a < 0) or np.any(size_b < 0):
        raise ValueError(
            "a circuit cannot have more units in a layer than the pool it is drawn from: "
            f"sizes up to {max(size_a.max(), size_b.max())}, pools down to {pool.min()}"
        )
    smaller, larger = np.minimum(size_a, size_b), np.maximum(size_a, size_b)  # symmetric law
    keys = np.concatenate([pool, smaller, larger, observed[:, None]], axis=1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    layers = pool.shape[1]
    expected = np.empty(len(unique))
    p_value = np.empty(len(unique))
    for start in range(0, len(unique), _BLOCK):
        block = unique[start : start + _BLOCK]
        part = slice(start, start + len(block))
        expected[part], p_value[part] = _block(
            block[:, :layers],
            block[:, layers : 2 * layers],
            block[:, 2 * layers : -1],
            block[:, -1],
        )
    inverse = inverse.reshape(-1)
    return ChanceLevel(expected[inverse], p_value[inverse])


def _block(pool: Ints, smaller: Ints, larger: Ints, observed: Ints) -> tuple[Floats, Floats]:
    total = np.ones((len(pool), 1))
    for layer in range(pool.shape[1]):
        total = _convolved(total, _layer_law(pool[:, layer], smaller[:, layer], larger[:, layer]))
    overlap = np.arange(total.shape[1])  # 0, 1, ... units in both
    size = (smaller + larger).sum(1)[:, None]
    union = size - overlap
    share = np.divide(overlap, union, out=np.zeros_like(total), where=union > 0)
    defined = size[:, 0] > 0
    expected = np.where(defined, (total * share).sum(1), np.nan)
    tail = np.where(overlap >= observed[:, None], total, 0.0).sum(1)
    return expected, np.where(defined, np.minimum(tail, 1.0), np.nan)


def _layer_law(pool: Ints, smaller: Ints, larger: Ints) -> Floats:
    """Probability of each overlap 0, 1, ... in one layer, ``[pairs, max overlap + 1]``."""
    cases, inverse = np.unique(np.stack([pool, smaller, larger]), axis=1, return_inverse=True)
    overlap = np.arange(int(smaller.max(initial=0)) + 1)
    law = hypergeometric(overlap, *(numbers[:, None] for numbers in cases))
    return law[inverse.reshape(-1)]


def _convolved(first: Floats, second: Floats) -> Floats:
    """Row by row the distribution of the sum; by shifted sums, which keep small tails exact."""
    total = np.zeros((len(first), first.shape[1] + second.shape[1] - 1))
    for shift in range(second.shape[1]):
        total[:, shift : shift + first.shape[1]] += first * second[:, shift : shift + 1]
    return total
