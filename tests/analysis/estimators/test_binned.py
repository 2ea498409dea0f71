from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from information_gaussian_pairs import NATS, pair

from fedcircuit.analysis.estimators.binned import (
    Binning,
    bin_codes,
    binned_inputs,
    binned_labels,
    entropy,
)
from fedcircuit.analysis.estimators.estimate import Float64Array, Int64Array
from fedcircuit.analysis.estimators.settings import BINNED, InformationSettings

BINNINGS: list[Binning] = ["binned-width", "binned-count", "binned-range"]
FOUR = np.array([[0.01, -0.01], [0.06, -0.06], [0.08, -0.01], [0.01, 0.01]])


def slow(codes: Float64Array, labels: Int64Array) -> tuple[float, float]:
    """H(codes), and H(codes) + H(Y) - H(codes, Y), by counting: another route to both."""

    def h(things: list[object]) -> float:
        n = len(things)
        return -sum(count / n * math.log(count / n) for count in Counter(things).values())

    rows: list[object] = [tuple(row) for row in codes]
    both: list[object] = [(tuple(row), y) for row, y in zip(codes, labels.tolist(), strict=True)]
    return h(rows), h(rows) + h(list(labels.tolist())) - h(both)


def test_width_bins_are_floors() -> None:
    codes = bin_codes(FOUR, NATS, "binned-width")  # width 0.07
    np.testing.assert_array_equal(codes, [[0, -1], [0, -1], [1, -1], [0, 0]])


def test_range_bins_clip_what_lies_outside() -> None:
    settings = InformationSettings(bins=4, bin_range=(-1.0, 1.0))
    values = np.array([[-1.0], [-0.51], [-0.5], [0.0], [0.99], [1.0], [7.0], [-3.0]])
    assert bin_codes(values, settings, "binned-range").ravel().tolist() == [0, 0, 1, 2, 3, 3, 3, 0]
    assert binned_inputs(values, settings, "binned-range").setting == (
        "4 bins on [-1, 1], 25.0% of the values outside"
    )


def test_count_bins_hold_equal_shares_and_ties_share_a_bin() -> None:
    settings = InformationSettings(bins=4)
    values = np.random.default_rng(0).standard_normal((100, 1))
    codes = bin_codes(values, settings, "binned-count").ravel().astype(int)
    assert np.bincount(codes).tolist() == [25, 25, 25, 25]
    ties = bin_codes(np.array([[0.0], [0.0], [0.0], [5.0]]), settings, "binned-count")
    assert len(set(ties[:3, 0])) == 1
    assert ties[3, 0] > ties[0, 0]


def test_the_worked_example() -> None:
    # codes a a b c: H = 1/2 log 2 + 2 * 1/4 log 4 = 1.5 bits; labels 0 1 0 0
    labels = np.array([0, 1, 0, 0])
    bits = InformationSettings(permutations=0)
    inputs = binned_inputs(FOUR, bits)
    assert inputs.value == pytest.approx(1.5, abs=1e-12)
    assert (inputs.n, inputs.d, inputs.unique) == (4, 2, 0.75)
    # within class 0 the codes a b c have log2 3 bits, within class 1 none
    assert binned_labels(FOUR, labels, bits, seed=0).value == pytest.approx(
        1.5 - 0.75 * math.log2(3), abs=1e-12
    )


def test_miller_madow_adds_half_the_codes_but_one_per_sample() -> None:
    counts = np.array([2, 0, 1, 1])
    assert entropy(counts, miller_madow=True) - entropy(counts) == pytest.approx(2 / 8)


@given(
    arrays(np.int64, st.tuples(st.integers(2, 30), st.integers(1, 2)), elements=st.integers(0, 3)),
    st.integers(0, 2**31),
)
def test_counting_by_hand_agrees(codes: Int64Array, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, len(codes))
    settings = replace(NATS, bin_width=1.0)
    about_inputs, about_labels = slow(codes.astype(np.float64), labels)
    assert binned_inputs(codes + 0.5, settings).value == pytest.approx(about_inputs, abs=1e-9)
    found = binned_labels(codes + 0.5, labels, settings, seed=0)
    assert found.value == pytest.approx(about_labels, abs=1e-9)


@pytest.mark.parametrize("binning", BINNINGS)
@pytest.mark.parametrize("d", [5, 20])
def test_binned_estimates_of_five_dimensions_and_more_are_flagged(binning: Binning, d: int) -> None:
    x, _ = pair(2000, d, 0.5)
    settings = replace(NATS, bin_range=(-3.0, 3.0))
    found = binned_inputs(x, settings, binning)
    assert found.saturated
    assert found.unique > 0.9
    assert binned_labels(
        x, (x[:, 0] > 0).astype(np.int64), settings, binning=binning, seed=0
    ).saturated


def test_one_dimension_with_few_bins_is_not_flagged() -> None:
    x, _ = pair(2000, 1, 0.5)
    assert not binned_inputs(x, NATS, "binned-count").saturated


def test_miller_madow_is_clipped_at_the_log_of_the_samples_and_flagged() -> None:
    x, _ = pair(300, 5, 0.5)
    found = binned_inputs(x, replace(NATS, miller_madow=True), "binned-count")
    assert found.value == math.log(300)
    assert found.saturated


def test_an_injective_map_of_discrete_inputs_keeps_all_of_them_and_is_flagged() -> None:
    inputs = (np.arange(4096)[:, None] >> np.arange(12)) & 1  # all words of 12 bits
    layer = inputs @ np.random.default_rng(0).permutation(2.0 ** np.arange(12))[:, None]
    found = binned_inputs(layer, InformationSettings(bin_width=0.5))
    assert found.value == pytest.approx(12.0, abs=1e-9)
    assert found.saturated
    assert found.unique == 1.0
    # a map of two to one keeps 11 bits
    half = inputs[:, 1:] @ (2.0 ** np.arange(11))[:, None]
    assert binned_inputs(half, InformationSettings(bin_width=0.5)).value == pytest.approx(11.0)


def test_saturated_bins_find_information_in_permuted_labels_and_the_null_shows_it() -> None:
    rng = np.random.default_rng(0)
    layer, labels = rng.standard_normal((500, 5)), rng.integers(0, 2, 500)
    found = binned_labels(layer, labels, InformationSettings(), seed=0)
    assert found.saturated
    assert found.value > 0.9  # of 1 bit, and there is nothing to know
    assert abs(found.above_null) < 0.05


def test_without_permutations_there_is_no_null() -> None:
    labels = np.array([0, 1, 0, 0])
    found = binned_labels(FOUR, labels, NATS, seed=0)
    assert math.isnan(found.null)
    assert math.isnan(found.above_null)


@pytest.mark.parametrize("binning", BINNINGS)
def test_binned_information_rises_with_the_correlation(binning: Binning) -> None:
    settings = replace(NATS, bins=10, bin_width=0.5, bin_range=(-3.0, 3.0), miller_madow=True)
    values = []
    for rho in (0.0, 0.5, 0.9, 0.99):
        x, y = pair(2000, 1, rho)
        bins = bin_codes(y, settings, "binned-count").ravel().astype(np.int64)
        values.append(binned_labels(x, bins, settings, binning=binning, seed=0).value)
    assert values == sorted(values)
    assert abs(values[0]) < 0.05
    assert values[-1] > 1


def test_information_about_labels_never_exceeds_their_entropy() -> None:
    layer, labels = np.arange(8.0)[:, None], np.array([0, 0, 0, 0, 0, 0, 1, 1])
    settings = replace(NATS, bin_width=1.0, miller_madow=True)
    assert binned_labels(layer, labels, settings, seed=0).value <= entropy(np.array([6, 2]))
    # here the correction would lift it above: codes 0 and 1 are the classes
    exact = binned_labels(labels[:, None] + 0.5, labels, settings, seed=0)
    assert exact.value == entropy(np.array([6, 2]))


def test_an_unknown_binning_is_refused() -> None:
    with pytest.raises(ValueError, match="binning must be one of .*binned-width.* got 'wide'"):
        bin_codes(FOUR, NATS, "wide")
    assert set(BINNED) == set(BINNINGS)
