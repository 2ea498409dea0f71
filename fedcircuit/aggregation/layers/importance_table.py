"""LIVAR's table: raw weights of layers by the quantiles that their path importance falls into."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

A_QUANTILES = (0.25, 0.5)  # columns: below, between, above; of the importance of factor A
B_QUANTILES = (0.6, 0.8)  # rows: of the importance of factor B, or of the whole weight

# Constants of the released code (fed-mammoth, 2025): 0.08813978 and what is added to it.
PUBLISHED = 0.08813978 + np.array(
    [[-0.05, -0.05, -0.05], [0.01, 0.0, -0.01], [0.105, 0.03, 0.005]], np.float64
)
ONE_FACTOR = PUBLISHED[:, 1] / PUBLISHED[1, 1]  # 0.433 : 1 : 1.340


def cells(importance: Floats, quantiles: tuple[float, float]) -> NDArray[np.int64]:
    """0 below the first quantile of all values together, 2 above the second, 1 between.

    Both bounds are between, so where all values are equal all are 1.

    Parameters
    ----------
    importance
        Of any shape, such as ``[clients, layers]``; its quantiles are those of all of it.
    quantiles
        Two shares in (0, 1), ascending.
    """
    low, high = np.quantile(importance, quantiles)
    found: NDArray[np.int64] = 1 + (importance > high).astype(np.int64) - (importance < low)
    return found


def one_factor(importance: Floats) -> Floats:
    """Raw weights ``[clients, layers]`` of whole weights: 0.433, 1 or 1.340."""
    found: Floats = ONE_FACTOR[cells(importance, B_QUANTILES)]
    return found


def two_factors(a: Floats, b: Floats, table: Floats = PUBLISHED) -> Floats:
    """Raw weights ``[clients, layers]`` of pairs of factors with importances of this shape.

    Parameters
    ----------
    a, b
        Path importance of the factors A and B.
    table
        ``[3, 3]``, rows by b and columns by a.
    """
    found: Floats = table[cells(b, B_QUANTILES), cells(a, A_QUANTILES)]
    return found


def shares_of(raw: Floats, base: Floats | None = None) -> Floats:
    """``[clients, layers]`` whose columns sum to 1: raw weights, times ``base [clients]``."""
    scaled = raw if base is None else raw * base[:, None]
    shares: Floats = scaled / scaled.sum(axis=0)
    return shares
