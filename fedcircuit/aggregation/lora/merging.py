"""One layer's low-rank factors of several clients as one pair: three ways, and what each loses.

A client adds ``B A`` to a layer's weight, with A ``[rank, inputs]`` and B ``[outputs, rank]``. The
weighted mean of the products is what averaging whole weights would give; in general it has a
greater rank than any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

MergeMode = Literal["factors", "product", "freeze_A"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FactorPair:
    """A ``[rank, inputs]`` and B ``[outputs, rank]`` of one layer of one client, as float64.

    Raises
    ------
    ValueError
        If they are no matrices of a common rank.
    """

    a: Floats
    b: Floats

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        if self.a.ndim != 2 or self.b.ndim != 2 or self.b.shape[1] != self.a.shape[0]:
            raise ValueError(
                f"expected A [rank, inputs] and B [outputs, rank], got A {self.a.shape} and "
                f"B {self.b.shape}"
            )

    @property
    def product(self) -> Floats:
        """``B A``, ``[outputs, inputs]``."""
        product: Floats = self.b @ self.a
        return product


@dataclass(frozen=True)
class Merged:
    """A merged pair, and how much of the weighted mean of the products it lacks.

    Parameters
    ----------
    pair
        The factors.
    lost_energy
        ``|M - B A|^2 / |M|^2`` (Frobenius), M being the weighted mean of the clients' products;
        0 where M is 0 and so is ``B A``, NaN where M is 0 and ``B A`` is not.
    """

    pair: FactorPair
    lost_energy: float


def merge(mode: MergeMode, pairs: Sequence[FactorPair], weights: ArrayLike) -> Merged:
    """Merge by the mode's name; see the function of each.

    Raises
    ------
    ValueError
        If the mode is unknown, or the pairs cannot be merged so.
    """
    if mode not in get_args(MergeMode):
        raise ValueError(f"mode must be one of {get_args(MergeMode)}, got {mode!r}")
    if mode == "product":
        return merge_product(pairs, weights)
    return (merge_factors if mode == "factors" else merge_freeze_a)(pairs, weights)


def merge_factors(pairs: Sequence[FactorPair], weights: ArrayLike) -> Merged:
    """Average A and B each by itself, as LIVAR's released code does.

    Inexact: ``mean(B) mean(A)`` is not ``mean(B A)``.

    Parameters
    ----------
    pairs
        Of the clients, of equal shapes.
    weights
        ``[clients]``, >= 0, summing to 1.

    Raises
    ------
    ValueError
        If shapes or weights do not fit.
    """
    shares = _checked(pairs, weights, same_rank=True)
    made = FactorPair(_mean([p.a for p in pairs], shares), _mean([p.b for p in pairs], shares))
    return Merged(made, _lost(pairs, shares, made))


def merge_freeze_a(pairs: Sequence[FactorPair], weights: ArrayLike) -> Merged:
    """Average B over clients that all keep the same A (FFA-LoRA, arXiv 2403.12313): exact.

    Parameters
    ----------
    pairs, weights
        As for :func:`merge_factors`.

    Raises
    ------
    ValueError
        If shapes or weights do not fit, or some client has another A.
    """
    shares = _checked(pairs, weights, same_rank=True)
    odd = [k for k, pair in enumerate(pairs) if not np.array_equal(pair.a, pairs[0].a)]
    if odd:
        raise ValueError(
            f"mode 'freeze_A' needs the same A in all clients, those at {odd} have another than "
            "the first; do not train A, or use mode 'product'"
        )
    made = FactorPair(pairs[0].a, _mean([pair.b for pair in pairs], shares))
    return Merged(made, _lost(pairs, shares, made))


def merge_product(
    pairs: Sequence[FactorPair], weights: ArrayLike, rank: int | None = None
) -> Merged:
    """The nearest pair of a rank to the weighted mean of the products, by truncated SVD.

    Exact where the rank is no less than the sum of the clients'. The singular values are shared
    evenly between the factors; where there are fewer than ``rank``, the rest is zero. The full
    product is never made: the SVD is that of the factors' triangles.

    Parameters
    ----------
    pairs, weights
        As for :func:`merge_factors`; ranks may differ.
    rank
        Of the result; None is the first client's.

    Raises
    ------
    ValueError
        If shapes or weights do not fit, or the rank is below 1.
    """
    shares = _checked(pairs, weights, same_rank=False)
    kept = pairs[0].a.shape[0] if rank is None else rank
    if kept < 1:
        raise ValueError(f"rank must be >= 1, got {kept}")
    left, right = _stacked(pairs, shares)
    q_left, r_left = np.linalg.qr(left)
    q_right, r_right = np.linalg.qr(right.T)
    u, values, v = np.linalg.svd(r_left @ r_right.T)
    n = min(kept, len(values))
    root = np.sqrt(values[:n])
    b, a = np.zeros((left.shape[0], kept)), np.zeros((kept, right.shape[1]))
    b[:, :n] = q_left @ u[:, :n] * root
    a[:n] = root[:, None] * (q_right @ v[:n].T).T
    energy = float((values**2).sum())
    lost = float((values[n:] ** 2).sum()) / energy if energy > 0 else 0.0
    return Merged(FactorPair(a, b), lost)


def _checked(pairs: Sequence[FactorPair], weights: ArrayLike, *, same_rank: bool) -> Floats:
    shares = np.asarray(weights, np.float64)
    if not pairs or shares.shape != (len(pairs),):
        raise ValueError(
            f"expected one weight for each of one or more clients, got {len(pairs)} clients and "
            f"weights of shape {shares.shape}"
        )
    if not ((shares >= 0).all() and np.isclose(shares.sum(), 1.0)):
        raise ValueError(f"weights must be >= 0 and sum to 1, got {shares.tolist()}")
    shapes = [(p.b.shape[0], p.a.shape[1], p.a.shape[0] if same_rank else 0) for p in pairs]
    odd = [k for k, shape in enumerate(shapes) if shape != shapes[0]]
    if odd:
        ranks = "" if same_rank else " (ranks may differ)"
        raise ValueError(
            f"all clients must have factors of the same shapes{ranks}; the first has A "
            f"{pairs[0].a.shape} and B {pairs[0].b.shape}, number {odd[0]} has A "
            f"{pairs[odd[0]].a.shape} and B {pairs[odd[0]].b.shape}"
        )
    return shares


def _mean(values: Sequence[Floats], shares: Floats) -> Floats:
    mean: Floats = np.tensordot(shares, np.stack(values), axes=1)
    return mean


def _stacked(pairs: Sequence[FactorPair], shares: Floats) -> tuple[Floats, Floats]:
    """Factors ``[outputs, sum of ranks]`` and ``[sum of ranks, inputs]`` of the weighted mean."""
    left = np.concatenate([w * pair.b for w, pair in zip(shares, pairs, strict=True)], axis=1)
    return left, np.concatenate([pair.a for pair in pairs])


def _lost(pairs: Sequence[FactorPair], shares: Floats, made: FactorPair) -> float:
    left, right = _stacked(pairs, shares)
    wanted = _energy(left, right)
    missing = _energy(np.concatenate([left, -made.b], axis=1), np.concatenate([right, made.a]))
    if wanted > 0:
        return missing / wanted
    return 0.0 if missing == 0 else float("nan")


def _energy(left: Floats, right: Floats) -> float:
    """Squared Frobenius norm of ``left right`` by the triangles of its factors."""
    core = np.linalg.qr(left)[1] @ np.linalg.qr(right.T)[1].T
    return float((core**2).sum())
