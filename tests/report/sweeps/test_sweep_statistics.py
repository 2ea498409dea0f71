"""Intervals, p values and their adjustment against hand-worked examples and independent code."""

import itertools
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtr
from scipy.stats import norm

from fedcircuit.report.sweeps.statistics import bca_interval, holm, paired_p

DIFFERENCES = [0.31, -0.04, 0.12, 0.55, 0.08]


def exact_bca(values: list[float]) -> tuple[float, float]:
    """BCa from all n^n resamples instead of a sample of them (Efron 1987, written out)."""
    given_values = np.array(values)
    n, mean = len(values), given_values.mean()
    means = np.sort([np.mean(one) for one in itertools.product(values, repeat=n)])
    below = ((means < mean - 1e-12).mean() + (means <= mean + 1e-12).mean()) / 2
    bias = norm.ppf(below)
    left_out = np.array([np.delete(given_values, i).mean() for i in range(n)])
    apart = left_out.mean() - left_out
    acceleration = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
    ends = []
    for share in (0.025, 0.975):
        z = bias + norm.ppf(share)
        level = norm.cdf(bias + z / (1 - acceleration * z))
        ends.append(float(np.quantile(means, level, method="inverted_cdf")))
    return ends[0], ends[1]


@pytest.mark.parametrize("values", [DIFFERENCES, [0.02, 0.01, 0.07], [-3.0, 5.0, 1.0, 0.5]])
def test_the_interval_is_that_of_all_resamples(values: list[float]) -> None:
    low, high = bca_interval(values)

    wanted = exact_bca(values)
    spread = max(values) - min(values)
    assert (low, high) == pytest.approx(wanted, abs=0.03 * spread)


def test_the_interval_of_skew_values_is_not_that_of_the_percentiles() -> None:
    means = [np.mean(one) for one in itertools.product(DIFFERENCES, repeat=5)]

    low, high = bca_interval(DIFFERENCES)

    assert low > np.quantile(means, 0.025)
    assert high > np.quantile(means, 0.975)


def test_the_same_values_give_the_same_interval() -> None:
    assert bca_interval(DIFFERENCES) == bca_interval(DIFFERENCES)
    assert bca_interval(DIFFERENCES) != bca_interval(DIFFERENCES, seed=1)


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.2], [0.3] * 4, [0.0] * 3])
def test_too_few_or_equal_differences_have_no_interval_and_no_test(values: list[float]) -> None:
    assert all(map(isnan, bca_interval(values)))
    assert isnan(paired_p(values))


@settings(max_examples=20)  # each makes 20,000 resamples
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=6), st.floats(-5, 5))
def test_the_interval_moves_with_the_values(values: list[float], by: float) -> None:
    low, high = bca_interval(values)
    moved = bca_interval([value + by for value in values])

    assert isnan(low) or min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    if np.ptp(values) > 1e-3 and not isnan(low):
        assert moved == pytest.approx((low + by, high + by), abs=1e-6)


def test_the_order_of_the_seeds_does_not_matter_much_and_ties_are_ties() -> None:
    # of the 27 resamples 6 are reorderings of these three and 11 lie below: the bias is that of
    # 14/27; were the order of a sum to decide, it would be anything from 11/27 to 17/27
    values = [0.1, 0.2, 0.7]

    assert bca_interval(values) == pytest.approx(exact_bca(values), abs=0.02)
    assert bca_interval(values[::-1]) == pytest.approx(bca_interval(values), abs=0.02)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="expected finite differences"):
        bca_interval([0.1, nan, 0.2])
    with pytest.raises(ValueError, match="expected finite differences"):
        paired_p([0.1, float("inf"), 0.2])


def test_the_p_value_is_that_of_the_t_distribution() -> None:
    values = np.array(DIFFERENCES)
    t = values.mean() / (values.std(ddof=1) / np.sqrt(5))

    assert paired_p(DIFFERENCES) == pytest.approx(2 * stdtr(4, -abs(t)), rel=1e-9)
    # by hand: 1, 2, 3 have mean 2, standard error 1/sqrt(3), t = 3.4641; two degrees of freedom
    # have the closed form 1 - t / sqrt(2 + t^2)
    assert paired_p([1.0, 2.0, 3.0]) == pytest.approx(1 - 12**0.5 / 14**0.5)


def test_holm_by_hand() -> None:
    # ascending 0.005 * 4 = 0.02, 0.01 * 3 = 0.03, 0.03 * 2 = 0.06, 0.04 * 1 -> 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_what_was_not_tested_out_of_the_count() -> None:
    adjusted = holm([nan, 0.02, nan, 0.6, 0.5])

    assert isnan(adjusted[0])
    assert isnan(adjusted[2])
    assert adjusted[1:2] + adjusted[3:] == pytest.approx([0.06, 1.0, 1.0])
    assert holm([]) == []


def test_holm_refuses_what_is_no_p_value() -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 1.2"):
        holm([0.1, 1.2])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(values: list[float]) -> None:
    adjusted = holm(values)

    for p, q in zip(values, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(values)) or q == pytest.approx(
            max(min(1.0, v * sum(u >= v for u in values)) for v in values if v <= p)
        )
    for (p, q), (r, s) in itertools.product(zip(values, adjusted, strict=True), repeat=2):
        assert q <= s or p >= r
