from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from information_gaussian_pairs import NATS, pair
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedKFold

from fedcircuit.analysis.estimators.estimate import Float64Array, Int64Array
from fedcircuit.analysis.estimators.linear_probe import (
    held_out_logits,
    information_of,
    probe_labels,
)
from fedcircuit.learning.seeds import derived_seed


def two_gaussians(n: int, distance: float, seed: int = 0) -> tuple[Float64Array, Int64Array]:
    """Classes of equal size, normal around -distance and distance, and a unit that says nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    means = np.stack([distance * (2 * labels - 1), np.zeros(n)], axis=1)
    return means + rng.standard_normal((n, 2)), labels


def true_information(distance: float) -> float:
    """log 2 - E log(1 + exp(-2 distance t)) for t normal around distance, by quadrature."""

    def term(t: float) -> float:
        density = math.exp(-((t - distance) ** 2) / 2) / math.sqrt(2 * math.pi)
        return density * float(np.logaddexp(0.0, -2 * distance * t))

    return math.log(2) - quad(term, -12, 12 + distance)[0]


@pytest.mark.parametrize("distance", [0.3, 1.0, 2.0])
def test_the_probe_finds_the_information_of_two_gaussians(distance: float) -> None:
    layer, labels = two_gaussians(4000, distance)
    found = probe_labels(layer, labels, NATS, seed=0)
    assert found.value == pytest.approx(true_information(distance), abs=0.03)
    assert not found.saturated


def test_held_out_logits_are_those_of_the_penalised_optimum_on_the_other_folds() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(60) % 3
    inputs = rng.standard_normal((60, 4)) + np.eye(3, 4)[classes]
    found = held_out_logits(inputs, classes, 3, 0.5, seed=7)
    split = StratifiedKFold(3, shuffle=True, random_state=derived_seed(7, "folds") % 2**32)
    for fitted, held in split.split(inputs, classes):
        own = np.arange(len(fitted)), classes[fitted]

        def loss(flat: Float64Array, fitted: Int64Array = fitted, own: object = own) -> float:
            weights, bias = flat[:12].reshape(4, 3), flat[12:]
            logs = log_softmax(inputs[fitted] @ weights + bias, axis=1)
            return float(-logs[own].sum() + np.square(weights).sum() / (2 * 0.5))  # type: ignore[index]

        best = minimize(loss, np.zeros(15), options={"gtol": 1e-6}).x
        slow = log_softmax(inputs[held] @ best[:12].reshape(4, 3) + best[12:], axis=1)
        np.testing.assert_allclose(found[held], slow, atol=0.02)


def test_the_value_is_the_entropy_less_the_cross_entropy_of_the_scaled_predictions() -> None:
    # a probe right in 3 of 4 that always says 0.99: scaled down until it says 0.75
    classes = np.array([0, 1, 0, 1])
    says = np.log(np.array([[0.99, 0.01], [0.01, 0.99], [0.99, 0.01], [0.99, 0.01]]))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert information_of(says, classes) == pytest.approx(math.log(2) - entropy, abs=1e-4)


def test_a_probe_that_is_wrong_counts_as_one_that_knows_the_shares_alone() -> None:
    classes = np.array([0, 1, 0, 1, 0, 1])
    wrong = np.log(np.where(np.eye(2)[classes] > 0, 0.01, 0.99))
    assert information_of(wrong, classes) == pytest.approx(0.0, abs=1e-4)
    sure = np.where(np.eye(2)[classes] > 0, 0.0, -np.inf)
    assert information_of(sure, classes) == pytest.approx(math.log(2), abs=1e-9)


@pytest.mark.parametrize(("n", "d"), [(1000, 5), (400, 200)])
def test_permuted_labels_have_no_information(n: int, d: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, n)
    layer = rng.standard_normal((n, d)) + np.eye(4, d)[labels] * 2
    found = probe_labels(layer, labels, replace(NATS, permutations=3), seed=0)
    assert found.null < 0.02
    assert found.above_null > 0.3
    assert found.above_null == found.value - found.null


def test_the_probe_rises_with_the_correlation() -> None:
    values = []
    for rho in (0.0, 0.5, 0.9, 0.99):
        x, y = pair(1000, 1, rho)
        values.append(probe_labels(x, (y[:, 0] > 0).astype(np.int64), NATS, seed=0).value)
    assert values == sorted(values)
    assert values[0] < 0.02
    assert values[-1] > 0.5


def test_what_is_not_linearly_readable_is_missed() -> None:
    rng = np.random.default_rng(0)
    layer = rng.standard_normal((1000, 2))
    labels = (layer[:, 0] * layer[:, 1] > 0).astype(np.int64)  # exclusive or
    assert probe_labels(layer, labels, NATS, seed=0).value < 0.02
    both = np.column_stack([layer, layer[:, 0] * layer[:, 1]])
    assert probe_labels(both, labels, NATS, seed=0).value > 0.4


def test_scales_constants_and_names_of_classes_do_not_matter() -> None:
    layer, labels = two_gaussians(200, 1.0)
    plain = probe_labels(layer, labels, NATS, seed=0)
    scaled = layer * [1e-200, 1e150] + [0.0, 3.0]
    assert probe_labels(scaled, labels, NATS, seed=0).value == pytest.approx(plain.value, rel=1e-5)
    assert probe_labels(layer, labels * 5 - 9, NATS, seed=0).value == plain.value
    settings = replace(NATS, strength=NATS.strength * 3 / 2)  # per unit as with two
    constant = np.column_stack([layer, np.full(200, 7.0)])
    assert probe_labels(constant, labels, settings, seed=0).value == pytest.approx(plain.value)


def test_a_rare_class_gets_as_many_folds_as_samples_and_one_sample_is_undefined() -> None:
    layer, labels = two_gaussians(60, 2.0)
    labels[:3] = 2
    assert "3 folds" in probe_labels(layer, labels, NATS, seed=0).setting
    labels[:2] = 0
    found = probe_labels(layer, labels, NATS, seed=0)
    assert math.isnan(found.value)
    assert found.reason == "a class has fewer than 2 samples"
