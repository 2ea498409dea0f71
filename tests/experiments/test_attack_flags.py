"""The rule that flags clients, and what is said of it: thresholds, intervals, AUROC."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from flags import auroc, outlyingness, threshold, wilson
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

NUMBERS = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=30)


def test_a_client_is_measured_in_robust_deviations_from_the_median() -> None:
    values = [0.5, 0.6, 0.7, 0.9, 0.1]  # median 0.6, distances .1 0 .1 .3 .5, their median 0.1
    scale = 1.4826 * 0.1
    np.testing.assert_allclose(
        outlyingness(values, "low"), np.array([0.1, 0.0, -0.1, -0.3, 0.5]) / scale, atol=1e-12
    )
    np.testing.assert_allclose(
        outlyingness(values, "both"), np.array([0.1, 0.0, 0.1, 0.3, 0.5]) / scale, atol=1e-12
    )


def test_clients_that_are_all_alike_are_no_outliers_to_the_last_digit() -> None:
    assert outlyingness([0.9, 0.9, 0.9, 0.9 - 1e-9], "low").max() < 1e-6


def test_a_client_without_a_value_is_the_farthest_unless_half_have_none() -> None:
    nan = math.nan
    assert outlyingness([0.1, nan, 0.2], "low").tolist()[1] == math.inf
    assert np.isnan(outlyingness([0.1, nan, 0.2, nan], "low")).all()
    assert np.isnan(outlyingness([nan], "both")).all()


@given(NUMBERS, st.floats(0.1, 10))
def test_outlyingness_does_not_depend_on_where_zero_is(values: list[float], shift: float) -> None:
    moved = outlyingness([value + shift for value in values], "low")
    np.testing.assert_allclose(outlyingness(values, "low"), moved, atol=1e-6)


def test_the_threshold_is_the_value_that_the_asked_share_exceeds() -> None:
    clean = [float(value) for value in range(1, 20)]  # k = ceil(20 * 0.9) = 18
    assert threshold(clean, 0.1) == 18.0
    assert threshold(clean, 0.05) == 19.0  # k = 19
    assert threshold(clean, 0.01) == math.inf  # k = 20 of 19
    assert threshold([*clean[:-1], math.nan], 0.1) == 17.0  # not suspicious, so the lowest
    assert threshold([], 0.05) == math.inf


@given(NUMBERS, st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_of_clean_values_and_one_more_at_most_the_asked_share_exceeds_its_threshold(
    values: list[float], rate: float
) -> None:
    exceeding = sum(
        value > threshold(values[:place] + values[place + 1 :], rate)
        for place, value in enumerate(values)
    )
    assert exceeding <= rate * len(values) + 1e-9


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (3, 10), (10, 10), (7, 200)])
def test_the_interval_is_that_of_wilson(hits: int, of: int) -> None:
    known = binomtest(hits, of).proportion_ci(0.95, method="wilson")
    assert wilson(hits, of) == pytest.approx((known.low, known.high), abs=1e-6)


def test_a_share_of_nothing_has_no_interval() -> None:
    assert all(math.isnan(end) for end in wilson(0, 0))


def test_auroc_counts_the_pairs_in_which_the_bad_client_is_higher() -> None:
    # 3 beats 1 and 2, ties with 3: 2.5 of 3; 0 beats none
    assert auroc([3.0, 0.0], [1.0, 2.0, 3.0]) == pytest.approx(2.5 / 6)
    assert auroc([math.inf], [1.0, math.nan]) == 1.0
    assert auroc([math.nan], [1.0, math.nan]) == 0.25  # below one, level with the other
    assert math.isnan(auroc([], [1.0]))


@given(NUMBERS, NUMBERS)
def test_auroc_is_the_share_of_pairs_and_turns_around_with_its_sides(
    bad: list[float], good: list[float]
) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a, b in product(bad, good)]
    assert auroc(bad, good) == pytest.approx(float(np.mean(pairs)))
    assert auroc(bad, good) + auroc(good, bad) == pytest.approx(1.0)
