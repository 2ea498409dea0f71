import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcircuit.circuits.overlap.false_discoveries import false_discovery

p_values = arrays(
    np.float64, st.integers(0, 12), elements=st.one_of(st.floats(0, 1), st.just(math.nan))
)


def test_four_tests_by_hand() -> None:
    # sorted .01 .02 .03 .5, times 4/1, 4/2, 4/3, 4/4: .04 .04 .04 .5
    result = false_discovery(np.array([0.5, 0.01, 0.03, 0.02]))
    assert result.p_values == pytest.approx([0.5, 0.04, 0.04, 0.04])
    assert result.below(0.05).tolist() == [False, True, True, True]
    assert not result.below(0.039).any()


def test_undefined_tests_are_left_out_and_counted() -> None:
    result = false_discovery(np.array([[0.04, math.nan], [math.nan, 0.03]]))
    # two tests, not four: .03 * 2 / 1 = .06, cut to the next, .04 * 2 / 2 = .04
    assert result.p_values[0, 0] == pytest.approx(0.04)
    assert result.p_values[1, 1] == pytest.approx(0.04)
    assert np.isnan(result.p_values[0, 1])
    assert (result.n_tests, result.n_undefined) == (2, 2)
    assert result.below().tolist() == [[True, False], [False, True]]


def test_nothing_defined_gives_nothing() -> None:
    result = false_discovery(np.full((2, 3), math.nan))
    assert np.isnan(result.p_values).all()
    assert (result.n_tests, result.n_undefined) == (0, 6)
    assert false_discovery(np.empty(0)).n_tests == 0


@given(p_values, st.floats(0.001, 0.999))
def test_what_is_below_is_what_the_step_up_procedure_finds(given_values, rate) -> None:
    tests = np.sort(given_values[~np.isnan(given_values)])
    passing = [i + 1 for i, p in enumerate(tests) if p <= rate * (i + 1) / len(tests)]
    limit = tests[max(passing) - 1] if passing else -1.0
    result = false_discovery(given_values)
    close = np.abs(result.p_values - rate) < 1e-12  # ties up to rounding may fall either way
    expected = ~np.isnan(given_values) & (given_values <= limit)
    assert (result.below(rate) == expected)[~close].all()
    assert result.n_tests + result.n_undefined == given_values.size


@given(p_values)
def test_adjusted_values_are_no_smaller_and_in_the_same_order(given_values) -> None:
    result = false_discovery(given_values)
    defined = ~np.isnan(given_values)
    assert (np.isnan(result.p_values) == ~defined).all()
    assert (result.p_values[defined] >= given_values[defined] - 1e-15).all()
    order = np.argsort(given_values[defined], kind="stable")
    assert (np.diff(result.p_values[defined][order]) >= -1e-15).all()
    strict = false_discovery(given_values, method="by").p_values[defined]
    assert (strict >= result.p_values[defined] - 1e-15).all()


def test_values_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        false_discovery(np.array([0.1, 1.5]))
