"""How well found circuits agree with planted ones: precision, recall, F1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """Agreement of a found set with the true one; fractions, NaN where undefined.

    Parameters
    ----------
    precision
        Share of the found that is true; NaN if nothing was found.
    recall
        Share of the true that was found; NaN if nothing is true.
    f1
        ``2 hits / (found + true)``; NaN if both sets are empty.
    """

    precision: float
    recall: float
    f1: float


def f1(found: Tensor, truth: Tensor) -> Score:
    """Precision, recall and F1 of a found set against the true one.

    Parameters
    ----------
    found, truth
        Bool of the same shape: masks of units or of edges, of one class or of many together.

    Raises
    ------
    ValueError
        If shapes or dtypes differ from that.
    """
    if found.shape != truth.shape or {found.dtype, truth.dtype} != {torch.bool}:
        raise ValueError(
            "found and truth must be bool of the same shape, got "
            f"{found.dtype} {tuple(found.shape)} and {truth.dtype} {tuple(truth.shape)}"
        )
    hits, n_found, n_true = int((found & truth).sum()), int(found.sum()), int(truth.sum())
    return Score(
        hits / n_found if n_found else math.nan,
        hits / n_true if n_true else math.nan,
        2 * hits / (n_found + n_true) if n_found + n_true else math.nan,
    )
