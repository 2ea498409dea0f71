"""Paired differences over seeds: their interval, a p value, and its adjustment for many arms."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

FEWEST = 3  # pairs: below it no interval is given
CONFIDENCE = 0.95
RESAMPLES = 9999
_DIGITS = 12  # of means of values that span 1
_SAME = 1e-12  # share of the largest magnitude below which differences are one value


def bca_interval(
    values: Sequence[float] | NDArray[np.float64], *, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean, by the bias-corrected and accelerated bootstrap (BCa).

    Efron, Better Bootstrap Confidence Intervals, JASA 1987; by `scipy.stats.bootstrap`.

    Parameters
    ----------
    values
        One a seed, [n], all defined.
    seed
        Of the resamples: the same values give the same interval.

    Returns
    -------
    tuple[float, float]
        NaN where there is none: fewer than three values, or all the same, so that their spread
        says nothing.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    given = _checked(values)
    if len(given) < FEWEST or _constant(given):
        return nan, nan
    from scipy import stats  # takes half a second

    middle, span = given.mean(), np.ptp(given)
    with warnings.catch_warnings():  # a degenerate distribution gives NaN, as is said above
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            ((given - middle) / span,),
            _mean,
            confidence_level=CONFIDENCE,
            n_resamples=RESAMPLES,
            method="BCa",
            vectorized=True,
            rng=np.random.default_rng(seed),
        )
    low, high = result.confidence_interval
    return float(middle + span * low), float(middle + span * high)


def _mean(values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Means that are equal where only rounding tells them apart.

    The method counts resamples below the mean of the data. With few values many are reorderings of
    the data, a fifth of all with three, and the order of a sum would decide on which side they are.
    """
    means: NDArray[np.float64] = np.asarray(values.mean(axis=axis))
    return means.round(_DIGITS)


def paired_p(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Two-sided p value of Student's t test that the mean of paired differences is 0.

    NaN for fewer than three values, and where all are the same.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    given = _checked(values)
    if len(given) < FEWEST or _constant(given):
        return nan
    from scipy import stats

    return float(stats.ttest_1samp(given, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number, so that they bound the family-wise error.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scand. J. Statist. 1979: of m
    values in ascending order the k-th is multiplied by m - k + 1, none becomes smaller than the
    one before, none larger than 1.

    Parameters
    ----------
    p_values
        In [0, 1]. NaN is no test: it stays NaN and does not count.

    Raises
    ------
    ValueError
        If a value is below 0 or above 1.
    """
    wrong = [p for p in p_values if not (isnan(p) or 0 <= p <= 1)]
    if wrong:
        raise ValueError(f"a p value must lie in [0, 1], got {wrong[0]}")
    tested = sorted((p, i) for i, p in enumerate(p_values) if not isnan(p))
    adjusted, highest = [nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[i] = highest
    return adjusted


def _checked(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError(
            f"expected finite differences [n], got {given.tolist()}; leave undefined pairs out"
        )
    return given


def _constant(given: NDArray[np.float64]) -> bool:
    return bool(np.ptp(given) <= _SAME * np.abs(given).max())
