"""The laws by scipy.special against those of scipy.stats, which is slow to import."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from fedcircuit.circuits.overlap.distributions import binomial_tails, hypergeometric

numbers = st.integers(0, 2**32 - 1)


@given(numbers)
def test_the_overlap_of_random_subsets_is_hypergeometric(seed: int) -> None:
    random = np.random.default_rng(seed)
    pool = random.integers(0, 60, 20)
    first, second = (np.array([random.integers(0, n + 1) for n in pool]) for _ in range(2))
    overlap = np.arange(62)
    law = hypergeometric(overlap, pool[:, None], first[:, None], second[:, None])

    some = pool > 0  # scipy knows no empty pool
    expected = hypergeom.pmf(overlap, pool[some, None], first[some, None], second[some, None])
    np.testing.assert_allclose(law[some], expected, rtol=1e-11, atol=1e-300)
    np.testing.assert_array_equal(law[~some], np.eye(1, 62)[np.zeros((~some).sum(), int)])
    np.testing.assert_allclose(law.sum(1), 1.0, rtol=1e-12)


def test_two_of_three_and_two_of_three_share_one_or_two() -> None:
    # pairs of {a, b, c}: of 9 pairs of pairs 3 are equal (2 shared), 6 share one unit
    np.testing.assert_allclose(hypergeometric(np.arange(3), 3, 2, 2), [0, 2 / 3, 1 / 3], rtol=1e-14)


def test_pools_of_a_hundred_thousand_units_stay_exact_enough() -> None:
    law = hypergeometric(np.arange(900, 1100), 100_000, 10_000, 10_000)
    expected = hypergeom.pmf(np.arange(900, 1100), 100_000, 10_000, 10_000)
    np.testing.assert_allclose(law, expected, rtol=1e-8)


@given(numbers, st.sampled_from([0.01, 0.1, 0.5, 0.9]))
def test_tails_are_those_of_the_binomial_law(seed: int, rate: float) -> None:
    random = np.random.default_rng(seed)
    n = random.integers(0, 300, 15)
    k = np.array([random.integers(0, m + 1) for m in n], dtype=np.float64)  # counts come as floats
    at_most, at_least = binomial_tails(k, n, rate)
    np.testing.assert_allclose(at_most, binom.cdf(k, n, rate), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(at_least, binom.sf(k - 1, n, rate), rtol=1e-10, atol=1e-14)
