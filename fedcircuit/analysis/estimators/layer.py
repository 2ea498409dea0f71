"""The information in one hidden layer about its inputs and about the labels."""

from __future__ import annotations

from typing import cast

import numpy as np

from fedcircuit.analysis.estimators.binned import Binning, binned_inputs, binned_labels
from fedcircuit.analysis.estimators.critics import critic_labels
from fedcircuit.analysis.estimators.estimate import Estimate, Float64Array, Int64Array
from fedcircuit.analysis.estimators.kolchinsky import (
    kolchinsky_tracey_inputs,
    kolchinsky_tracey_labels,
)
from fedcircuit.analysis.estimators.ksg import ksg_labels
from fedcircuit.analysis.estimators.linear_probe import probe_labels
from fedcircuit.analysis.estimators.settings import BINNED, CRITICS, InformationSettings


def layer_information(
    activations: Float64Array, labels: Int64Array, settings: InformationSettings, *, seed: int
) -> tuple[Estimate, ...]:
    """Estimates of I(X;T), then of I(T;Y), of one hidden layer on a pool common to all models.

    Kolchinsky-Tracey gives two estimates, lower and upper. Compare models on the same pool, layers
    of the same width, and read the values beside the accuracy.

    Parameters
    ----------
    activations
        ``[n, d]``, made in eval mode on inputs that all differ; a convolutional layer is flattened
        or averaged over its positions before.
    labels
        ``[n]``.
    settings
        Which estimators, and their settings.
    seed
        Of folds, permutations and critics; the same activations and seed give the same numbers.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    activations = np.asarray(activations, dtype=np.float64)
    return (
        *_inputs(activations, settings),
        *label_information(activations, labels, settings, seed=seed),
    )


def _inputs(activations: Float64Array, settings: InformationSettings) -> tuple[Estimate, ...]:
    if settings.inputs in BINNED:
        return (binned_inputs(activations, settings, cast(Binning, settings.inputs)),)
    return kolchinsky_tracey_inputs(activations, settings)


def label_information(
    activations: Float64Array, labels: Int64Array, settings: InformationSettings, *, seed: int
) -> tuple[Estimate, ...]:
    """Estimates of I(T;Y) alone: one, or lower and upper with Kolchinsky-Tracey.

    Parameters and errors are those of :func:`layer_information`.
    """
    name = settings.labels
    if name in BINNED:
        binning = cast(Binning, name)
        return (binned_labels(activations, labels, settings, binning=binning, seed=seed),)
    if name in CRITICS:
        return (critic_labels(activations, labels, settings, seed=seed),)
    if name == "kolchinsky-tracey":
        return kolchinsky_tracey_labels(activations, labels, settings, seed=seed)
    if name == "ksg":
        return (ksg_labels(activations, labels, settings, seed=seed),)
    return (probe_labels(activations, labels, settings, seed=seed),)
