"""Whole numbers in given shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def largest_remainder(
    weights: NDArray[np.int64] | NDArray[np.float64], total: int
) -> NDArray[np.int64]:
    """``total`` in whole parts ``[n]`` in the ratio of the weights, by largest remainder.

    Every part is its exact share rounded down or up, a weight of 0 gets 0, and the parts add up
    to ``total``. Of equal remainders the first is rounded up. Whole weights are treated exactly.

    Parameters
    ----------
    weights
        ``[n]``, not negative, with a positive sum.
    total
        What is dealt, not negative.
    """
    whole, rest = np.divmod(weights * total, weights.sum())
    parts = whole.astype(np.int64)
    short = total - int(parts.sum())
    parts[np.argsort(-rest, kind="stable")[:short]] += 1
    return parts
