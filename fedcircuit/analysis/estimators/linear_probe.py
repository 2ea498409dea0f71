"""Information about labels as a held-out linear probe uses it: the default for I(T;Y)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fedcircuit.analysis.estimators.binned import entropy
from fedcircuit.analysis.estimators.estimate import (
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
from fedcircuit.analysis.estimators.settings import InformationSettings
from fedcircuit.learning import derived_seed

_MOST_SHARPENING = 4.0


def probe_labels(
    activations: Float64Array, labels: Int64Array, settings: InformationSettings, *, seed: int
) -> Estimate:
    """H(Y) less the cross-entropy of a linear softmax probe on samples it was not fitted to.

    Every sample is held out once. The logits of all held-out samples are then scaled by one
    number, 0 being the class frequencies: so the value is never below 0, at the price of a bias of
    about 1 / (2 n) nats. Up to that it is a lower bound on I(T;Y) in expectation: what a linear
    probe can use (V-information: Xu et al., 2020, arXiv 2002.10689). What is there but not
    linearly readable is missed, so unlike I(T;Y) it may rise from layer to layer.

    Parameters
    ----------
    activations
        ``[n, d]``; units are standardised.
    labels
        ``[n]``; every class needs 2 samples, or the value is NaN. With fewer samples than folds in
        a class there are as many folds as samples.
    settings
        Unit, ``folds``, ``strength``, ``permutations``.
    seed
        Of the folds and the permutations.
    """
    check_shapes(activations, labels)
    n, d = activations.shape
    classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    folds = min(settings.folds, int(sizes.min(initial=settings.folds)))
    text = f"linear softmax, prior variance of a logit {settings.strength:g}, {folds} folds"
    asked = Asked(LABELS, "probe", text, settings.unit, n, d, unique_share(activations))
    permutations = settings.permutations_of("probe")
    known = known_without_estimating(activations, labels)
    if known is None and folds < 2:
        known = (math.nan, "a class has fewer than 2 samples")
    if known is not None:
        null = known[0] if permutations else math.nan
        return asked.answer(known[0], null=null, reason=known[1])
    inputs = _standardised(activations)

    def estimate(classes: Int64Array) -> float:
        logits = held_out_logits(inputs, classes, folds, settings.strength / d, seed)
        return information_of(logits, classes)

    classes = classes.astype(np.int64)
    nats = estimate(classes)
    null = permutation_null(estimate, classes, permutations, seed)
    return asked.answer(nats, saturated=saturates(nats, n), null=null)


def _standardised(activations: Float64Array) -> Float64Array:
    """Units with mean 0 and variance 1; those that are constant are left out."""
    low, high = activations.min(0), activations.max(0)
    varying = activations[:, low < high]
    varying = varying / np.abs(varying).max(0)  # no overflow in the variance
    centred = varying - varying.mean(0)
    scale = np.sqrt(np.mean(np.square(centred), axis=0))
    return np.asarray(centred / np.where(scale > 0, scale, 1.0), dtype=np.float64)


def held_out_logits(
    inputs: Float64Array, classes: Int64Array, folds: int, variance: float, seed: int
) -> Float64Array:
    """Log-probabilities ``[n, classes]`` of every sample by the probe fitted to the other folds.

    Parameters
    ----------
    inputs, classes
        ``[n, d]``, and ``[n]`` from 0 on with at least 2 of each.
    folds
        Parts, each with the classes in about the same shares.
    variance
        Prior variance of a weight.
    seed
        Of the folds.
    """
    from sklearn.model_selection import StratifiedKFold  # takes about a second

    split = StratifiedKFold(folds, shuffle=True, random_state=derived_seed(seed, "folds") % 2**32)
    n_classes = int(classes.max()) + 1
    places = torch.eye(n_classes, dtype=torch.float64)[torch.from_numpy(classes)]
    rows = torch.from_numpy(np.column_stack([inputs, np.ones(len(inputs))]))  # the last is the bias
    logits = np.empty((len(classes), n_classes))
    for fitted, held in split.split(inputs, classes):
        weights = _fitted(rows[fitted], places[fitted], variance)
        logits[held] = torch.log_softmax(rows[held] @ weights, dim=1).numpy()
    return logits


def _fitted(rows: Tensor, places: Tensor, variance: float) -> Tensor:
    """Weights ``[d + 1, classes]`` of softmax regression with a Gaussian prior on all but the bias.

    It is torch's, which keeps to the threads that a study gives it; SciPy and scikit-learn take all
    cores, and on busy ones a problem as small as this then takes a hundred times as long.
    """
    n = len(rows)
    weights = torch.zeros(rows.shape[1], places.shape[1], dtype=torch.float64)
    weights[-1] = torch.log(places.mean(0))
    prior = torch.full((len(weights), 1), 1 / (variance * n), dtype=torch.float64)
    prior[-1] = 0.0
    # a probe that has not converged is one as well: the bound holds for any
    optimiser = torch.optim.LBFGS(
        [weights], max_iter=100, tolerance_grad=5e-4, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        logs = torch.log_softmax(rows @ weights, dim=1)
        weights.grad = rows.T @ (logs.exp() - places) / n + prior * weights
        return (prior * weights.square()).sum() / 2 - (logs * places).sum() / n

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights


def information_of(logits: Float64Array, classes: Int64Array) -> float:
    """H(Y) less cross-entropy in nats, with the logits scaled as suits them best; never below 0.

    Predictions are ``p_c ** (1 - a) q_c ** a`` up to a constant, with the class frequencies p, the
    probe's q and one number a in [0, 4]; the cross-entropy is convex in a.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    counts = np.bincount(classes, minlength=logits.shape[1])
    prior = np.log(counts / len(classes))
    away = np.maximum(logits, -1e3) - prior
    own = np.arange(len(classes)), classes

    def gain(scale: float) -> float:
        scores = scale * away
        return float(np.mean(scores[own] - logsumexp(scores + prior, axis=1)))

    best = minimize_scalar(
        lambda scale: -gain(scale), bounds=(0.0, _MOST_SHARPENING), method="bounded"
    )
    return min(max(0.0, gain(float(best.x))), entropy(counts))
