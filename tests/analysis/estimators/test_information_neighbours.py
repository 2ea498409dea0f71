from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from information_gaussian_pairs import NATS, pair, truth
from scipy.special import digamma

from fedcircuit.analysis.estimators.estimate import Float64Array, Int64Array
from fedcircuit.analysis.estimators.ksg import ksg_joint, ksg_labels, ksg_pair, ksg_units
from fedcircuit.analysis.estimators.settings import InformationSettings


def slow_ksg(x: Float64Array, y: Float64Array, k: int) -> float:
    """Sample by sample, with all distances."""
    total = 0.0
    for i in range(len(x)):
        dx, dy = np.abs(x - x[i]).max(1), np.abs(y - y[i]).max(1)
        others = np.arange(len(x)) != i
        radius = np.sort(np.maximum(dx, dy)[others])[k - 1]
        n_x, n_y = int((dx[others] < radius).sum()), int((dy[others] < radius).sum())
        total += float(digamma(n_x + 1) + digamma(n_y + 1))
    return float(digamma(k) + digamma(len(x))) - total / len(x)


def slow_ross(values: Float64Array, labels: Int64Array, k: int) -> float:
    """psi(n) + psi(k) - <psi(n_c)> - <psi(m)>; m: nearer than the k-th neighbour of the class."""
    total = 0.0
    for i in range(len(values)):
        distances = np.abs(values - values[i])
        own = np.sort(distances[(labels == labels[i]) & (np.arange(len(values)) != i)])
        m = int((distances < own[k - 1]).sum())  # itself among them
        total += float(digamma(m) + digamma((labels == labels[i]).sum()))
    return float(digamma(k) + digamma(len(values))) - total / len(values)


@pytest.mark.parametrize(("d", "e", "k"), [(1, 1, 3), (2, 1, 3), (3, 3, 5)])
def test_counting_neighbours_by_hand_agrees(d: int, e: int, k: int) -> None:
    x, y = pair(80, max(d, e), 0.7)
    found = ksg_joint(x[:, :d], y[:, :e], replace(NATS, neighbours=k))
    assert found.value == pytest.approx(slow_ksg(x[:, :d], y[:, :e], k), abs=1e-9)
    assert (found.quantity, found.n, found.d, found.setting) == ("I(X;Y)", 80, d + e, f"k = {k}")


def test_both_routes_find_nothing_in_independent_variables() -> None:
    x, y = pair(2000, 1, 0.0)
    assert abs(ksg_joint(x, y, NATS).value) < 0.05
    assert abs(ksg_pair(x[:, 0], y[:, 0], NATS, seed=0).value) < 0.05


@pytest.mark.parametrize("rho", [0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_both_routes_find_the_truth_in_one_dimension(rho: float, seed: int) -> None:
    x, y = pair(2000, 1, rho, seed)
    assert ksg_joint(x, y, NATS).value == pytest.approx(truth(1, rho), abs=0.06)
    alone = ksg_pair(x[:, 0], y[:, 0], NATS, seed=0)
    assert alone.value == pytest.approx(truth(1, rho), abs=0.06)


def test_both_routes_rise_with_the_correlation() -> None:
    pairs = [pair(1000, 1, rho) for rho in (0.0, 0.5, 0.9, 0.99)]
    joint = [ksg_joint(x, y, NATS).value for x, y in pairs]
    alone = [ksg_pair(x[:, 0], y[:, 0], NATS, seed=0).value for x, y in pairs]
    assert joint == sorted(joint)
    assert alone == sorted(alone)
    assert joint[-1] > 1.5


def test_the_joint_route_is_far_too_low_in_twenty_dimensions() -> None:
    x, y = pair(300, 20, 0.9)
    assert ksg_joint(x, y, NATS).value < truth(20, 0.9) / 3


def test_units_against_labels_by_hand_agree() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    layer = rng.standard_normal((60, 2)) + labels[:, None] * [2.0, 1.2]
    slow = [slow_ross(layer[:, j], labels, 3) for j in range(2)]
    assert slow[0] > slow[1] > 0
    np.testing.assert_allclose(ksg_units(layer, labels, NATS, seed=0), slow, atol=1e-6)
    found = ksg_labels(layer, labels, NATS, seed=0)
    assert found.value == pytest.approx(np.mean(slow), abs=1e-6)
    assert found.setting == "k = 3, mean over 2 units"


def test_information_about_labels_rises_with_the_correlation() -> None:
    values = []
    for rho in (0.0, 0.5, 0.9, 0.99):
        x, y = pair(1000, 1, rho)
        values.append(ksg_labels(x, (y[:, 0] > 0).astype(np.int64), NATS, seed=0).value)
    assert values == sorted(values)
    assert values[0] < 0.05
    assert values[-1] > 0.4


def test_permuted_labels_have_no_information_for_single_units() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    layer = rng.standard_normal((1000, 2)) + labels[:, None]
    found = ksg_labels(layer, labels, replace(NATS, permutations=5), seed=0)
    assert found.null < 0.03
    assert found.above_null > 0.05


def test_too_few_samples_are_undefined() -> None:
    x, y = pair(3, 1, 0.5)
    assert math.isnan(ksg_joint(x, y, NATS).value)
    assert ksg_joint(x, y, NATS).reason == "3 samples are too few for k = 3"
    few = ksg_labels(np.arange(6.0)[:, None], np.array([0, 0, 0, 1, 1, 1]), NATS, seed=0)
    assert math.isnan(few.value)
    assert few.reason == "a class has no more than k = 3 samples"


def test_variables_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="as many samples, got 4 and 5"):
        ksg_joint(np.zeros((4, 1)), np.zeros((5, 1)), InformationSettings())
    with pytest.raises(ValueError, match=r"shape \[n, d\], got \(4,\)"):
        ksg_joint(np.zeros(4), np.zeros((4, 1)), InformationSettings())
