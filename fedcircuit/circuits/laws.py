"""Ranks, two probability laws and adjusted p-values, as in ``scipy.stats``.

Importing ``scipy.stats`` takes about a second, more than the circuits of a small round.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def hypergeometric(
    overlap: ArrayLike, pool: ArrayLike, first: ArrayLike, second: ArrayLike
) -> Floats:
    """Probability that two random subsets of ``first`` and ``second`` of ``pool`` share so many.

    ``scipy.stats.hypergeom.pmf(overlap, pool, first, second)``; whole numbers that broadcast, with
    ``0 <= first, second <= pool``. The relative error is about 1e-16 times the logarithm of the
    factorial of the pool: 1e-13 for 100 units, 1e-10 for 100,000.
    """
    k, total, a, b = np.broadcast_arrays(
        *(np.asarray(values, dtype=np.int64) for values in (overlap, pool, first, second))
    )
    rest = total - a
    possible = (k >= np.maximum(0, b - rest)) & (k <= np.minimum(a, b))
    inside = np.where(possible, k, np.maximum(0, b - rest))
    logs = _log_choose(a, inside) + _log_choose(rest, b - inside) - _log_choose(total, b)
    return np.where(possible, np.exp(logs), 0.0)


def binomial_tails(successes: ArrayLike, trials: ArrayLike, rate: float) -> tuple[Floats, Floats]:
    """Probabilities of at most, and of at least, so many successes.

    Parameters
    ----------
    successes, trials
        Whole numbers ``[n]``, ``0 <= successes <= trials``.
    rate
        Of success, in (0, 1).

    Returns
    -------
    tuple
        ``[n]`` each: ``scipy.stats.binom.cdf(successes, trials, rate)`` and ``sf(successes - 1)``.
    """
    k = np.asarray(successes, dtype=np.int64)[:, None]
    n = np.asarray(trials, dtype=np.int64)[:, None]
    each = np.arange(int(n.max(initial=0)) + 1)
    inside = np.minimum(each, n)
    logs = _log_choose(n, inside) + inside * math.log(rate) + (n - inside) * math.log1p(-rate)
    law = np.where(each <= n, np.exp(logs), 0.0)
    at_most, at_least = (np.where(chosen, law, 0.0).sum(1) for chosen in (each <= k, each >= k))
    return np.minimum(at_most, 1.0), np.minimum(at_least, 1.0)


def ranks(values: Floats) -> Floats:
    """Ranks from 1 along the last axis of ``[rows, n]``; equal values share their mean rank.

    ``scipy.stats.rankdata(values, axis=1)`` for values without NaN.
    """
    n_rows, n = values.shape
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    first = np.ones((n_rows, n), dtype=np.bool_)  # whether a value differs from the one before
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    places = np.arange(n)
    begin = np.maximum.accumulate(np.where(first, places, 0), axis=1)
    last = np.ones_like(first)
    last[:, :-1] = first[:, 1:]
    end = np.minimum.accumulate(np.where(last, places, n)[:, ::-1], axis=1)[:, ::-1]
    result = np.empty((n_rows, n))
    np.put_along_axis(result, order, (begin + end) / 2 + 1, axis=1)
    return result


def adjusted_p_values(p_values: Floats, method: str) -> Floats:
    """P-values ``[n]`` adjusted for the rate of false discoveries; none is NaN.

    ``scipy.stats.false_discovery_control``: by Benjamini and Hochberg (``bh``), or by Benjamini and
    Yekutieli (``by``), which holds whatever the dependence between tests.
    """
    n = len(p_values)
    order = np.argsort(p_values)
    number = np.arange(1, n + 1)
    scaled = p_values[order] * (n / number)
    if method == "by":
        scaled = scaled * np.sum(1 / number)
    smallest = np.minimum.accumulate(scaled[::-1])[::-1]
    result = np.empty(n)
    result[order] = np.clip(smallest, 0.0, 1.0)
    return result


def _log_choose(n: NDArray[np.int64], k: NDArray[np.int64]) -> Floats:
    logs = _log_factorials(_room(int(n.max(initial=0))))
    chosen: Floats = logs[n] - logs[k] - logs[n - k]
    return chosen


def _room(largest: int) -> int:
    """A power of two beyond the number, so that few tables are made."""
    return 1 << (largest + 1).bit_length()


@lru_cache(maxsize=4)
def _log_factorials(n: int) -> Floats:
    return np.array([math.lgamma(i + 1) for i in range(n)])
