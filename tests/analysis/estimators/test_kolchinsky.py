from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from information_gaussian_pairs import NATS, pair

from fedcircuit.analysis.estimators.estimate import Float64Array, Int64Array
from fedcircuit.analysis.estimators.kolchinsky import (
    kolchinsky_tracey,
    kolchinsky_tracey_inputs,
    kolchinsky_tracey_labels,
    noise_of,
)
from fedcircuit.analysis.estimators.settings import InformationSettings

POINTS = arrays(
    np.float64,
    st.tuples(st.integers(2, 12), st.integers(1, 3)),
    elements=st.floats(-4, 4, width=32),
)


def slow(rows: Float64Array, variance: float, share: float) -> float:
    """-1/N sum_i log 1/N sum_j exp(-|t_i - t_j|^2 / (share * variance)), sum by sum."""
    total = 0.0
    for one in rows:
        inner = sum(math.exp(-(math.dist(one, other) ** 2) / (share * variance)) for other in rows)
        total -= math.log(inner / len(rows))
    return total / len(rows)


def slow_labels(rows: Float64Array, labels: Int64Array, variance: float, share: float) -> float:
    inside = sum(
        np.mean(labels == c) * slow(rows[labels == c], variance, share)
        for c in set(labels.tolist())
    )
    return slow(rows, variance, share) - float(inside)


def test_the_worked_example() -> None:
    # two points at distance 2, variance 1/2: exp(-4) above, exp(-1) below
    rows = np.array([[0.0, 1.0], [2.0, 1.0]])
    found = kolchinsky_tracey(rows, 0.5, [np.array([0, 1])])
    assert found.upper == pytest.approx(-math.log((1 + math.exp(-4)) / 2), abs=1e-12)
    assert found.lower == pytest.approx(-math.log((1 + math.exp(-1)) / 2), abs=1e-12)
    assert found.labels_upper[0] == pytest.approx(found.upper, abs=1e-12)  # alone in its class


@given(POINTS, st.floats(0.01, 4), st.integers(1, 13), st.integers(0, 2**31))
@settings(max_examples=50)
def test_sums_one_by_one_agree_whatever_the_block(
    rows: Float64Array, variance: float, block: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, len(rows))
    found = kolchinsky_tracey(rows, variance, [labels], block=block)
    assert found.upper == pytest.approx(slow(rows, variance, 2.0), abs=1e-9)
    assert found.lower == pytest.approx(slow(rows, variance, 8.0), abs=1e-9)
    for value, share in ((found.labels_upper[0], 2.0), (found.labels_lower[0], 8.0)):
        assert value == pytest.approx(slow_labels(rows, labels, variance, share), abs=1e-9)


def test_blocks_and_labellings_together_equal_one_pass_for_each() -> None:
    x, _ = pair(301, 4, 0.5)
    rng = np.random.default_rng(0)
    labellings = [rng.integers(0, k, 301) for k in (2, 5, 3)]
    whole = kolchinsky_tracey(x, 0.3, labellings, block=1000)
    blocks = kolchinsky_tracey(x, 0.3, labellings, block=64)
    assert blocks.upper == pytest.approx(whole.upper, abs=1e-12)
    assert blocks.lower == pytest.approx(whole.lower, abs=1e-12)
    np.testing.assert_allclose(blocks.labels_lower, whole.labels_lower, atol=1e-12)
    alone = [float(kolchinsky_tracey(x, 0.3, [one]).labels_upper[0]) for one in labellings]
    np.testing.assert_allclose(whole.labels_upper, alone, atol=1e-12)


@given(POINTS, st.floats(0.05, 2))
@settings(max_examples=50)
def test_bounds_are_ordered_at_most_log_n_and_blind_to_shifts_and_rotations(
    rows: Float64Array, variance: float
) -> None:
    found = kolchinsky_tracey(rows, variance)
    assert -1e-12 <= found.lower <= found.upper + 1e-12
    assert found.upper <= math.log(len(rows)) + 1e-12
    moved = kolchinsky_tracey(3.0 - rows[:, ::-1], variance)
    assert moved.upper == pytest.approx(found.upper, abs=1e-9)
    less = kolchinsky_tracey(rows, 2 * variance)
    assert less.upper <= found.upper + 1e-12


@given(POINTS, st.integers(0, 2**31))
@settings(max_examples=50)
def test_information_about_labels_never_exceeds_their_entropy(
    rows: Float64Array, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 2, len(rows))
    shares = np.bincount(labels)[np.bincount(labels) > 0] / len(rows)
    most = -float(np.sum(shares * np.log(shares)))
    found = kolchinsky_tracey(rows, 0.1, [labels])
    assert found.labels_upper[0] <= most + 1e-9
    assert found.labels_lower[0] <= most + 1e-9


@pytest.mark.parametrize(("d", "variance"), [(1, 0.1), (1, 1.0), (2, 0.5), (5, 1.0)])
def test_the_truth_lies_between_the_bounds(d: int, variance: float) -> None:
    x, _ = pair(2000, d, 0.0)
    lower, upper = kolchinsky_tracey_inputs(x, replace(NATS, noise_variance=variance))
    assert lower.value <= d / 2 * math.log(1 + 1 / variance) <= upper.value
    assert not lower.saturated


def test_twenty_dimensions_saturate_far_below_the_truth_and_say_so() -> None:
    x, _ = pair(2000, 20, 0.0)
    lower, upper = kolchinsky_tracey_inputs(x, replace(NATS, noise_variance=0.1))
    assert lower.saturated
    assert upper.saturated
    assert upper.value == pytest.approx(math.log(2000), abs=1e-3)
    assert 10 * math.log(1 + 1 / 0.1) > 3 * upper.value


def test_bounds_rise_as_the_noise_falls() -> None:
    x, _ = pair(500, 1, 0.0)
    for which in range(2):
        values = [
            kolchinsky_tracey_inputs(x, replace(NATS, noise_variance=v))[which].value
            for v in (10.0, 1.0, 0.1, 0.01)
        ]
        assert values == sorted(values)


@pytest.mark.parametrize("which", [0, 1])
def test_information_about_labels_rises_with_the_correlation(which: int) -> None:
    values = []
    for rho in (0.0, 0.5, 0.9, 0.99):
        x, y = pair(1000, 1, rho)
        labels = (y[:, 0] > 0).astype(np.int64)
        found = kolchinsky_tracey_labels(x, labels, replace(NATS, beta=0.3), seed=0)[which]
        values.append(found.value)
    assert values == sorted(values)
    assert abs(values[0]) < 0.05
    assert values[-1] > 0.4


def test_relative_noise_does_not_see_the_layers_scale() -> None:
    x, _ = pair(200, 3, 0.0)
    small = kolchinsky_tracey_inputs(x, NATS)[1]
    large = kolchinsky_tracey_inputs(1000 * x, NATS)[1]
    assert large.value == pytest.approx(small.value, abs=1e-9)
    variance, text = noise_of(np.array([[0.0, 1.0], [2.0, 5.0]]), InformationSettings(beta=0.2))
    assert variance == pytest.approx(0.04 * 2.5)  # variances 1 and 4
    assert text == "noise variance 0.1 = 0.2^2 x mean unit variance"


def test_noise_far_below_the_rounding_of_products_is_still_exact() -> None:
    rows = np.array([[1e4], [1e4 + 1e-4], [-1e4]])
    found = kolchinsky_tracey(rows, 1e-8)
    assert found.upper == pytest.approx(slow(rows, 1e-8, 2.0), abs=1e-6)


def test_saturated_bounds_find_information_in_permuted_labels_and_the_null_shows_it() -> None:
    rng = np.random.default_rng(0)
    layer, labels = rng.standard_normal((300, 20)), rng.integers(0, 2, 300)
    for found in kolchinsky_tracey_labels(layer, labels, InformationSettings(beta=0.1), seed=0):
        assert found.saturated
        assert found.value > 0.9
        assert abs(found.above_null) < 0.05
