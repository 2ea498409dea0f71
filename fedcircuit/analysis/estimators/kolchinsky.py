"""Bounds of Kolchinsky and Tracey on the information in a layer with Gaussian noise added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedcircuit.analysis.estimators.estimate import (
    INPUTS,
    LABELS,
    Asked,
    Estimate,
    Float64Array,
    Int64Array,
    check_shapes,
    known_without_estimating,
    permuted,
    saturates,
    unique_share,
)
from fedcircuit.analysis.estimators.settings import InformationSettings

NAME = "kolchinsky-tracey"
_ROUNDING = 1e-10  # squared distances from products are wrong by about 1e-16 of the squared norms


@dataclass(frozen=True)
class Bounds:
    """Lower and upper, in nats: of I(X;Z), and of its difference I(Z;Y) for every labelling."""

    lower: float
    upper: float
    labels_lower: Float64Array  # [labellings]
    labels_upper: Float64Array


def kolchinsky_tracey(
    activations: Float64Array,
    variance: float,
    labellings: Sequence[Int64Array] = (),
    *,
    block: int = 1024,
) -> Bounds:
    """Bounds on I(X;Z) for Z = T + N(0, variance I), and their differences within classes.

    With ``d_ij = |t_i - t_j| ** 2`` and s2 the variance, in nats:
    ``-1/N sum_i log(1/N sum_j exp(-d_ij / (2 s2)))`` is the upper bound, with ``8 s2`` in place of
    ``2 s2`` the lower one. For labels, ``sum_c p_c`` times the same within class c is subtracted:
    a difference of bounds is no bound, but it never exceeds H(Y). Both bounds are at most log N,
    so that the upper one may lie below the truth.

    Source: Kolchinsky and Tracey, Estimating mixture entropy with pairwise distances, 2017,
    arXiv 1706.02419.

    Parameters
    ----------
    activations
        ``[n, d]``, finite.
    variance
        Of the noise, > 0.
    labellings
        Labels ``[n]`` from 0 on, as many arrays as wanted; one pass serves them all.
    block
        Rows of the distance matrix in memory at once.
    """
    n = len(activations)
    centred = torch.from_numpy(activations - activations.mean(0))
    norms = centred.square().sum(1)
    exact = variance < _ROUNDING * float(norms.max())
    members = [
        torch.eye(int(labels.max()) + 1, dtype=torch.float64)[labels] for labels in labellings
    ]
    logs = np.zeros(2)
    inside = np.zeros((2, len(labellings)))
    for start in range(0, n, block):
        rows = torch.arange(start, min(start + block, n))
        if exact:
            from scipy.spatial.distance import cdist

            distances = torch.from_numpy(cdist(centred[rows], centred, "sqeuclidean"))
        else:  # torch's products keep to the threads that a study gives it, NumPy's take all cores
            distances = norms[rows, None] + norms - 2.0 * (centred[rows] @ centred.T)
            distances.clamp_(min=0.0)
        distances[rows - start, rows] = 0.0
        kernel = distances.mul_(-1 / (8.0 * variance)).exp_()
        for which in range(2):  # lower, then upper: exp(-d / 2) = exp(-d / 8) ** 4
            if which:
                kernel.square_().square_()
            logs[which] += float(torch.log(kernel.sum(1) / n).sum())  # a row has its own 1
            inside[which] += _inside(kernel, rows, labellings, members)
    both = -logs / n
    differences = both[:, None] + inside / n
    return Bounds(float(both[0]), float(both[1]), differences[0], differences[1])


def _inside(
    kernel: Tensor, rows: Tensor, labellings: Sequence[Int64Array], members: Sequence[Tensor]
) -> Float64Array:
    """Sum over rows of the log of the mean kernel within the row's own class, ``[labellings]``."""
    found, start = np.empty(len(labellings)), 0
    if not labellings:
        return found
    sums = kernel @ torch.cat(list(members), dim=1)  # [rows, classes of all labellings]
    for k, (labels, member) in enumerate(zip(labellings, members, strict=True)):
        classes = torch.from_numpy(labels)[rows]
        own = sums[torch.arange(len(rows)), start + classes]
        found[k] = float(torch.log(own / member.sum(0)[classes]).sum())
        start += member.shape[1]
    return found


def noise_of(activations: Float64Array, settings: InformationSettings) -> tuple[float, str]:
    """Variance of the noise, and how it was chosen, in words."""
    if settings.noise_variance is not None:
        return settings.noise_variance, f"noise variance {settings.noise_variance:g}"
    known = activations.size > 0 and np.isfinite(activations).all()
    scale = float(np.mean(np.var(activations, axis=0))) if known else math.nan
    variance = settings.beta**2 * scale
    return variance, f"noise variance {variance:.3g} = {settings.beta:g}^2 x mean unit variance"


def kolchinsky_tracey_inputs(
    activations: Float64Array, settings: InformationSettings
) -> tuple[Estimate, Estimate]:
    """Lower and upper bound on I(X;Z), where Z is the layer ``[n, d]`` with Gaussian noise."""
    check_shapes(activations)
    variance, asked = _asked(INPUTS, activations, settings)
    known = known_without_estimating(activations)
    if known is not None:
        lower, upper = (ask.answer(known[0], reason=known[1]) for ask in asked)
        return lower, upper
    found = kolchinsky_tracey(activations, variance, block=settings.block)
    n = len(activations)
    return (
        asked[0].answer(found.lower, saturated=saturates(found.lower, n)),
        asked[1].answer(found.upper, saturated=saturates(found.upper, n)),
    )


def kolchinsky_tracey_labels(
    activations: Float64Array, labels: Int64Array, settings: InformationSettings, *, seed: int
) -> tuple[Estimate, Estimate]:
    """I(Z;Y) as the difference of lower bounds and of upper bounds: estimates, not bounds.

    ``saturated`` is that of the bound on I(X;Z): then every sample is alone, and any labels get
    the value H(Y). The permutation null is estimated unless ``settings.permutations`` is 0; the
    seed is that of the permutations.
    """
    check_shapes(activations, labels)
    variance, asked = _asked(LABELS, activations, settings)
    permutations = settings.permutations_of(NAME)
    known = known_without_estimating(activations, labels)
    if known is not None:
        null = known[0] if permutations else math.nan
        lower, upper = (ask.answer(known[0], null=null, reason=known[1]) for ask in asked)
        return lower, upper
    classes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    labellings = [classes, *permuted(classes, permutations, seed)]
    found = kolchinsky_tracey(activations, variance, labellings, block=settings.block)
    n = len(labels)
    lower, upper = (
        ask.answer(
            float(values[0]),
            saturated=saturates(bound, n),
            null=float(values[1:].mean()) if permutations else math.nan,
        )
        for ask, values, bound in zip(
            asked, (found.labels_lower, found.labels_upper), (found.lower, found.upper), strict=True
        )
    )
    return lower, upper


def _asked(
    quantity: str, activations: Float64Array, settings: InformationSettings
) -> tuple[float, tuple[Asked, Asked]]:
    variance, text = noise_of(activations, settings)
    n, d = activations.shape
    unique = unique_share(activations)
    lower, upper = (
        Asked(quantity, f"{NAME}-{side}", text, settings.unit, n, d, unique)
        for side in ("lower", "upper")
    )
    return variance, (lower, upper)
