"""What an estimate of mutual information says of itself, and the cases where none is needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning import derived_seed

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]

INPUTS = "I(X;T)"
LABELS = "I(T;Y)"
PAIR = "I(X;Y)"  # of two variables that are no layer
CONSTANT = "the activations are constant"  # the reason why a value is exactly 0
UNITS = {"bits": math.log(2.0), "nats": 1.0}  # nats in one of each
SATURATED_SHARE = 0.9  # of log n, from where on an estimate says more of n than of the layer


@dataclass(frozen=True)
class Estimate:
    """An estimate of mutual information, with what is needed to judge it.

    Parameters
    ----------
    quantity
        ``I(X;T)`` or ``I(T;Y)``; ``I(X;Y)`` for two continuous variables.
    value
        The estimate, with no null subtracted; NaN where undefined. It may be a little below 0.
    unit
        ``bits`` or ``nats``.
    estimator
        Its name, such as ``kolchinsky-tracey-upper``, ``binned-width`` or ``probe``.
    setting
        Bin width, noise, neighbours: the choice that the value is a property of.
    n, d
        Samples and dimensions.
    unique
        Distinct rows of activations (codes where binned), as a share of the samples.
    saturated
        Whether the value is a property of ``n``: above 0.9 log n. Where I(T;Y) is a difference of
        entropies or bounds, whether the one that is subtracted from is; InfoNCE cannot exceed
        the log of its batch, which takes the place of ``n``.
    null
        Mean estimate with permuted labels, in the same unit; NaN where not asked for.
    reason
        Why the value is NaN or exactly 0 without a look at the numbers; else empty.
    """

    quantity: str
    value: float
    unit: str
    estimator: str
    setting: str
    n: int
    d: int
    unique: float
    saturated: bool
    null: float
    reason: str = ""

    @property
    def above_null(self) -> float:
        """The value less its permutation null; NaN where there is no null."""
        return self.value - self.null


@dataclass(frozen=True)
class Asked:
    """What is estimated, how, on how many samples: all of an estimate but its numbers."""

    quantity: str
    estimator: str
    setting: str
    unit: str
    n: int
    d: int
    unique: float

    def answer(
        self, nats: float, *, saturated: bool = False, null: float = math.nan, reason: str = ""
    ) -> Estimate:
        """The estimate from numbers in nats."""
        scale = UNITS[self.unit]
        return Estimate(
            quantity=self.quantity, value=nats / scale, unit=self.unit, estimator=self.estimator,
            setting=self.setting, n=self.n, d=self.d, unique=self.unique, saturated=saturated,
            null=null / scale, reason=reason,
        )  # fmt: skip


def saturates(nats: float, n: int) -> bool:
    """Whether a value is above 0.9 log n; a NaN is not."""
    return n > 1 and nats > SATURATED_SHARE * math.log(n)


def check_shapes(activations: Float64Array, labels: Int64Array | None = None) -> None:
    """Refuse what is not activations ``[n, d]`` with labels ``[n]``.

    Raises
    ------
    ValueError
        If a shape is another.
    """
    if activations.ndim != 2:
        raise ValueError(
            f"activations must have shape [n, d], got {activations.shape}; flatten a convolutional "
            "layer or average it over its positions"
        )
    if labels is not None and labels.shape != activations.shape[:1]:
        raise ValueError(
            f"labels must have shape [{len(activations)}], one for each sample, got {labels.shape}"
        )


def check_pair(first: Float64Array, second: Float64Array) -> None:
    """Refuse what is not ``[n, d]`` and ``[n, e]``.

    Raises
    ------
    ValueError
        If a shape is another, or the numbers of samples differ.
    """
    for values in (first, second):
        if values.ndim != 2:
            raise ValueError(f"both variables must have shape [n, d], got {values.shape}")
    if len(first) != len(second):
        raise ValueError(f"both variables need as many samples, got {len(first)} and {len(second)}")


def known_without_estimating(
    activations: Float64Array, labels: Int64Array | None = None
) -> tuple[float, str] | None:
    """The value in nats and the reason, where it needs no estimator; None where it needs one.

    NaN with fewer than 2 samples or a number that is not finite. Exactly 0 where one side is
    constant: no units, equal activations of all samples, one class.
    """
    if len(activations) < 2:
        return math.nan, f"fewer than 2 samples: {len(activations)}"
    if not np.isfinite(activations).all():
        return math.nan, "activations are not finite"
    if activations.shape[1] == 0:
        return 0.0, "no units"
    if labels is not None and (labels == labels[0]).all():
        return 0.0, "one class only"
    if (activations == activations[0]).all():
        return 0.0, CONSTANT
    return None


def unique_share(rows: NDArray[np.float64]) -> float:
    """Distinct rows as a share of all; NaN without rows."""
    if not len(rows):
        return math.nan
    rows = np.ascontiguousarray(rows + 0.0)  # -0.0 is 0.0
    return len({row.tobytes() for row in rows}) / len(rows)


def permutation_null(
    estimate: Callable[[Int64Array], float], labels: Int64Array, permutations: int, seed: int
) -> float:
    """Mean of an estimate over permuted labels; NaN with 0 permutations."""
    if not permutations:
        return math.nan
    return float(np.mean([estimate(p) for p in permuted(labels, permutations, seed)]))


def permuted(labels: Int64Array, permutations: int, seed: int) -> list[Int64Array]:
    """The labels in so many random orders, of a stream of their own."""
    rng = np.random.default_rng(derived_seed(seed, "label-permutations"))
    return [rng.permutation(labels) for _ in range(permutations)]
