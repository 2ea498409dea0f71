"""Binned estimates: the entropy of the codes that binned activations form."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from fedcircuit.analysis.estimators.estimate import (
    INPUTS,
    LABELS,
    Asked,
    Estimate,
    Float64Array,
    Int64Array,
    check_shapes,
    known_without_estimating,
    permutation_null,
    saturates,
    unique_share,
)
from fedcircuit.analysis.estimators.settings import BINNED, InformationSettings

Binning = Literal["binned-width", "binned-count", "binned-range"]


def bin_codes(
    activations: Float64Array, settings: InformationSettings, binning: str
) -> Float64Array:
    """Whole numbers ``[n, d]``: the bin of every value.

    ``binned-width`` is ``floor(T / bin_width)``. ``binned-count`` cuts every dimension at its
    quantiles; equal values share a bin, so bins are of equal count only without ties.
    ``binned-range`` cuts ``bin_range`` into ``bins`` equal parts.

    Raises
    ------
    ValueError
        If the binning is unknown.
    """
    if binning == "binned-width":
        return np.floor(activations / settings.bin_width) + 0.0  # no negative zero
    if binning == "binned-count":
        inner = np.linspace(0.0, 1.0, settings.bins + 1)[1:-1]
        edges = np.quantile(activations, inner, axis=0)  # [bins - 1, d]
        columns = [
            np.searchsorted(edges[:, j], activations[:, j], side="right")
            for j in range(activations.shape[1])
        ]
        return np.stack(columns, axis=1).astype(np.float64)
    if binning == "binned-range":
        low, high = settings.bin_range
        codes = np.floor((activations - low) / (high - low) * settings.bins)
        return np.clip(codes, 0, settings.bins - 1)
    raise ValueError(f"binning must be one of {', '.join(BINNED)}, got {binning!r}")


def binned_inputs(
    activations: Float64Array, settings: InformationSettings, binning: Binning = "binned-width"
) -> Estimate:
    """I(X;T) = H(codes) for distinct inputs; at most log n, where it is clipped.

    Says something only where there are much fewer distinct codes than samples: see ``unique`` and
    ``saturated``.

    Parameters
    ----------
    activations
        Of one layer on inputs that all differ, ``[n, d]``.
    settings
        Unit, bins, Miller-Madow (Miller 1955: entropies get (codes - 1) / (2 n) nats more).
    binning
        Which bins: see :func:`bin_codes`.
    """
    check_shapes(activations)
    asked, codes = _asked(INPUTS, activations, settings, binning)
    known = known_without_estimating(activations)
    if known is not None:
        return asked.answer(known[0], reason=known[1])
    nats = _inputs_nats(codes, settings)
    return asked.answer(nats, saturated=saturates(nats, len(activations)))


def binned_labels(
    activations: Float64Array,
    labels: Int64Array,
    settings: InformationSettings,
    *,
    binning: Binning = "binned-width",
    seed: int,
) -> Estimate:
    """I(T;Y) = H(codes) - sum_c p_c H(codes | Y = c); at most H(Y), where it is clipped.

    Labels without meaning get a high value too once most codes are distinct, so the permutation
    null is estimated unless ``settings.permutations`` is 0. ``saturated`` is that of H(codes).

    Parameters
    ----------
    activations, labels
        ``[n, d]`` and ``[n]``.
    settings, binning
        As of :func:`binned_inputs`.
    seed
        Of the permutations.
    """
    check_shapes(activations, labels)
    asked, codes = _asked(LABELS, activations, settings, binning)
    permutations = settings.permutations_of(binning)
    known = known_without_estimating(activations, labels)
    if known is not None:
        null = known[0] if permutations else math.nan
        return asked.answer(known[0], null=null, reason=known[1])
    classes = np.unique(labels, return_inverse=True)[1].astype(np.int64)

    def estimate(classes: Int64Array) -> float:
        return _labels_nats(codes, classes, miller_madow=settings.miller_madow)

    return asked.answer(
        estimate(classes),
        saturated=saturates(_inputs_nats(codes, settings), len(labels)),
        null=permutation_null(estimate, classes, permutations, seed),
    )


def _asked(
    quantity: str, activations: Float64Array, settings: InformationSettings, binning: str
) -> tuple[Asked, Int64Array]:
    """What is asked, and the number of every sample's code ``[n]``; unknown where not finite."""
    n, d = activations.shape
    setting = _setting(activations, settings, binning)
    if n and d and np.isfinite(activations).all():
        codes = bin_codes(activations, settings, binning)
        numbers = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        unique = (int(numbers.max()) + 1) / n
    else:
        numbers, unique = np.zeros(n, dtype=np.int64), unique_share(activations)
    return Asked(quantity, binning, setting, settings.unit, n, d, unique), numbers


def _setting(activations: Float64Array, settings: InformationSettings, binning: str) -> str:
    if binning == "binned-width":
        text = f"bins of width {settings.bin_width:g}"
    elif binning == "binned-count":
        text = f"{settings.bins} bins of equal count"
    else:
        low, high = settings.bin_range
        text = f"{settings.bins} bins on [{low:g}, {high:g}]"
        outside = int(np.sum((activations < low) | (activations > high)))
        if outside:
            text += f", {outside / activations.size:.1%} of the values outside"
    return text + (", Miller-Madow" if settings.miller_madow else "")


def _inputs_nats(codes: Int64Array, settings: InformationSettings) -> float:
    nats = entropy(np.bincount(codes), miller_madow=settings.miller_madow)
    return min(nats, math.log(len(codes)))


def _labels_nats(codes: Int64Array, classes: Int64Array, *, miller_madow: bool) -> float:
    n_classes = int(classes.max()) + 1
    table = np.bincount(codes * n_classes + classes, minlength=(codes.max() + 1) * n_classes)
    table = table.reshape(-1, n_classes)  # [codes, classes]
    sizes = table.sum(0)
    inside = [entropy(table[:, c], miller_madow=miller_madow) for c in range(n_classes)]
    nats = entropy(table.sum(1), miller_madow=miller_madow)
    nats -= float(np.dot(sizes, inside)) / len(codes)
    return min(nats, entropy(sizes))


def entropy(counts: Int64Array, *, miller_madow: bool = False) -> float:
    """Entropy in nats of counts ``[m]``, plug-in or with the correction of Miller (1955).

    The correction is (occupied - 1) / (2 n), for n counts in all in ``occupied`` places.
    """
    occupied = counts[counts > 0]
    n = int(occupied.sum())
    shares = occupied / n
    nats = -float(np.sum(shares * np.log(shares)))
    return nats + ((len(occupied) - 1) / (2 * n) if miller_madow else 0.0)
