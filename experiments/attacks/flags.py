"""The rule that flags a client, its threshold, and how well it tells bad from good ones.

A statistic of a client is compared with the median of the round's clients, in robust standard
deviations. The threshold is the value that a given share of the clients of clean runs exceeds, of
the same strategy, statistic and round, on seeds that nothing is tested on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TO_DEVIATION = 1.4826  # standard deviation of a normal distribution in units of its MAD
LEAST_SCALE = 0.01  # all statistics have a range of about one; equal clients are not infinitely so
NOMINAL = 0.05


def outlyingness(values: Sequence[float], side: Literal["low", "both"]) -> Floats:
    """How far each client lies from the median of all, in robust standard deviations.

    A client without a value (no circuit at all) is infinitely far, unless half or more of the
    clients have none: then nothing can be said, and all are NaN.

    Parameters
    ----------
    values
        One statistic of the clients of a round; undefined is NaN.
    side
        ``low``: positive below the median, negative above; ``both``: the distance.
    """
    given = np.asarray(values, dtype=np.float64)
    defined = given[~np.isnan(given)]
    if 2 * len(defined) <= len(given):
        return np.full(len(given), np.nan)
    middle = np.median(defined)
    scale = max(TO_DEVIATION * float(np.median(np.abs(defined - middle))), LEAST_SCALE)
    below = (middle - given) / scale
    return np.where(np.isnan(given), np.inf, below if side == "low" else np.abs(below))


def threshold(clean: Sequence[float], rate: float = NOMINAL) -> float:
    """The value that a further clean client exceeds with a probability of at most ``rate``.

    That is the k-th smallest of n clean values with ``k = ceil((n + 1)(1 - rate))``, if the further
    one is as likely to take any place among them; infinity where n is too small for the rate.
    NaN counts as not suspicious.
    """
    ordered = np.sort(np.nan_to_num(clean, nan=-np.inf, posinf=np.inf, neginf=-np.inf))
    place = math.ceil(round((len(ordered) + 1) * (1 - rate), 9))  # 0.95 * 100 is 95, not above
    return float(ordered[place - 1]) if place <= len(ordered) else math.inf


def wilson(hits: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; NaN of nothing."""
    if of == 0:
        return math.nan, math.nan
    share, extra = hits / of, z * z / of
    middle = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * math.sqrt(share * (1 - share) / of + extra / (4 * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def auroc(bad: Sequence[float], good: Sequence[float]) -> float:
    """Probability that a bad client's value is the higher one, ties by half; chance is 0.5.

    NaN counts as not suspicious; NaN of nothing.
    """
    if not len(bad) or not len(good):
        return math.nan
    a, b = (np.nan_to_num(x, nan=-np.inf, posinf=np.inf, neginf=-np.inf) for x in (bad, good))
    higher = np.searchsorted(np.sort(b), a, side="left")
    not_lower = np.searchsorted(np.sort(b), a, side="right")
    return float((higher + not_lower).mean() / 2 / len(b))
