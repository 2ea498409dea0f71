"""Nearest-neighbour estimates: two continuous variables, and single units against labels."""

from __future__ import annotations

import math

import numpy as np

from fedcircuit.analysis.estimators.estimate import (
    LABELS,
    PAIR,
    Asked,
    Estimate,
    Float64Array,
    Int64Array,
    check_pair,
    check_shapes,
    known_without_estimating,
    permutation_null,
    saturates,
    unique_share,
)
from fedcircuit.analysis.estimators.settings import InformationSettings
from fedcircuit.learning import derived_seed


def ksg_pair(
    first: Float64Array, second: Float64Array, settings: InformationSettings, *, seed: int
) -> Estimate:
    """I(X;Y) of two scalars ``[n]``, by scikit-learn's KSG: standardised, ties broken, never < 0.

    Source: Kraskov, Stögbauer and Grassberger, Estimating mutual information, Physical Review E,
    2004, arXiv cond-mat/0305641. The seed is that of the tiny noise that breaks ties.
    """
    from sklearn.feature_selection import mutual_info_regression  # takes about a second

    asked, known = _pair(first[:, None], second[:, None], settings)
    if known is not None:
        return asked.answer(known[0], reason=known[1])
    (nats,) = mutual_info_regression(
        first[:, None], second, discrete_features=False, n_neighbors=settings.neighbours,
        random_state=_state(seed),
    )  # fmt: skip
    return asked.answer(float(nats), saturated=saturates(float(nats), len(first)))


def ksg_joint(first: Float64Array, second: Float64Array, settings: InformationSettings) -> Estimate:
    """I(X;Y) of ``[n, d]`` and ``[n, e]`` by KSG with the max-norm; for d and e of at most 3.

    ``psi(k) + psi(n) - <psi(n_x + 1) + psi(n_y + 1)>``, where n_x counts the other samples that
    are nearer in X than the k-th neighbour in (X, Y). Far too low where dimensions are many.
    Columns are taken as they are: scale them alike.
    """
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    asked, known = _pair(first, second, settings)
    if known is not None:
        return asked.answer(known[0], reason=known[1])
    k, n = settings.neighbours, len(first)
    tree = cKDTree(np.concatenate([first, second], axis=1))
    distances = np.asarray(tree.query(tree.data, k=[k + 1], p=math.inf)[0])
    radius = np.nextafter(distances[:, 0], 0.0)  # strictly nearer
    terms = digamma(_within(first, radius)) + digamma(_within(second, radius))
    nats = float(digamma(k) + digamma(n) - np.mean(terms))
    return asked.answer(nats, saturated=saturates(nats, n))


def _within(points: Float64Array, radius: Float64Array) -> Int64Array:
    """Samples within every sample's radius, itself among them, ``[n]``."""
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    return np.asarray(
        tree.query_ball_point(points, radius, p=math.inf, return_length=True), dtype=np.int64
    )


def _pair(
    first: Float64Array, second: Float64Array, settings: InformationSettings
) -> tuple[Asked, tuple[float, str] | None]:
    check_pair(first, second)
    both = np.concatenate([first, second], axis=1)
    n, d = both.shape
    text = f"k = {settings.neighbours}"
    asked = Asked(PAIR, "ksg", text, settings.unit, n, d, unique_share(both))
    if n <= settings.neighbours:
        return asked, (math.nan, f"{n} samples are too few for k = {settings.neighbours}")
    return asked, known_without_estimating(first) or known_without_estimating(second)


def ksg_units(
    activations: Float64Array, labels: Int64Array, settings: InformationSettings, *, seed: int
) -> Float64Array:
    """I(T_j;Y) in nats of every unit ``[d]`` by Ross's estimator; scikit-learn clips it at 0.

    Source: Ross, Mutual information between discrete and continuous data sets, PLoS ONE, 2014.
    """
    from sklearn.feature_selection import mutual_info_classif  # takes about a second

    return np.asarray(
        mutual_info_classif(
            activations, labels, discrete_features=False, n_neighbors=settings.neighbours,
            random_state=_state(seed),
        ),
        dtype=np.float64,
    )  # fmt: skip


def ksg_labels(
    activations: Float64Array, labels: Int64Array, settings: InformationSettings, *, seed: int
) -> Estimate:
    """Mean over units of I(T_j;Y): about single units, so no more than I(T;Y) of the layer.

    Activations ``[n, d]``, labels ``[n]``; the seed is that of tie-breaking and permutations.
    NaN where a class has no more than k samples.
    """
    check_shapes(activations, labels)
    n, d = activations.shape
    text = f"k = {settings.neighbours}, mean over {d} units"
    asked = Asked(LABELS, "ksg", text, settings.unit, n, d, unique_share(activations))
    permutations = settings.permutations_of("ksg")
    known = known_without_estimating(activations, labels)
    if known is None and np.unique(labels, return_counts=True)[1].min() <= settings.neighbours:
        known = (math.nan, f"a class has no more than k = {settings.neighbours} samples")
    if known is not None:
        null = known[0] if permutations else math.nan
        return asked.answer(known[0], null=null, reason=known[1])

    def estimate(labels: Int64Array) -> float:
        return float(ksg_units(activations, labels, settings, seed=seed).mean())

    nats = estimate(labels)
    null = permutation_null(estimate, labels, permutations, seed)
    return asked.answer(nats, saturated=saturates(nats, n), null=null)


def _state(seed: int) -> int:
    return derived_seed(seed, "ties") % 2**32
