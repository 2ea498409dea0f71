from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.learning.apportion import largest_remainder


def test_the_largest_remainders_are_rounded_up() -> None:
    # shares of 10: 4.7, 2.2, 1.6, 1.5, and 8 when rounded down; two more to the .7 and the .6
    assert largest_remainder(np.array([47, 22, 16, 15]), 10).tolist() == [5, 2, 2, 1]


def test_of_equal_remainders_the_first_is_rounded_up_and_zero_stays_zero() -> None:
    assert largest_remainder(np.array([0, 3, 3, 3, 0]), 7).tolist() == [0, 3, 2, 2, 0]
    assert largest_remainder(np.full(100, 9), 30).tolist() == [1] * 30 + [0] * 70


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any), st.integers(0, 10**5))
def test_parts_add_up_and_are_shares_rounded_down_or_up(weights: list[int], total: int) -> None:
    parts = largest_remainder(np.array(weights), total).tolist()

    assert sum(parts) == total
    for weight, part in zip(weights, parts, strict=True):
        assert abs(part - Fraction(weight * total, sum(weights))) < 1
    ordered = sorted(zip(weights, parts, strict=True))
    assert all(a[1] <= b[1] for a, b in pairwise(ordered) if a[0] < b[0])


@given(st.integers(0, 10**4), st.floats(0.01, 10), st.integers(0, 1000))
def test_shares_that_are_no_whole_numbers_are_rounded_too(
    total: int, alpha: float, seed: int
) -> None:
    shares = np.random.default_rng(seed).dirichlet(np.full(10, alpha))

    parts = largest_remainder(shares, total)

    assert parts.sum() == total
    assert (np.abs(parts - shares * total) < 1 + 1e-6).all()
