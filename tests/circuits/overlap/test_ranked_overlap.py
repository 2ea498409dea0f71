from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.overlap.ranked_overlap import rank_biased_overlap
from fedcircuit.circuits.overlap.weighted_iou import ScoredSide

ONE = (Site("x", 4, 1, "x"),)
TWO = (Site("x", 2, 1, "x"), Site("y", 3, 1, "y"))


def rows(*values: list[float]) -> ScoredSide:
    return ScoredSide(np.array(values))


def naive(a: list[int], b: list[int], p: float) -> float:
    """Webber et al. (2010), equation 32, of two lists of equal length, by sets."""
    k = len(a)
    agreement = [len(set(a[:d]) & set(b[:d])) / d for d in range(1, k + 1)]
    series = sum(x * p ** (d + 1) for d, x in enumerate(agreement))
    return agreement[-1] * p**k + (1 - p) / p * series


def test_rank_agreement_by_hand() -> None:
    # orders 0 1 2 3 and 1 0 3 2: agreement 0, 1, 2/3, 1
    result = rank_biased_overlap(
        rows([4.0, 3.0, 2.0, 1.0]), rows([3.0, 4.0, 1.0, 2.0]), ONE, persistence=0.5
    )
    # 1/16 * 1 + (0/2 + 1/4 + (2/3)/8 + 1/16)
    assert result.overlap[0] == pytest.approx(1 / 16 + 1 / 4 + 1 / 12 + 1 / 16)
    assert naive([0, 1, 2, 3], [1, 0, 3, 2], 0.5) == pytest.approx(result.overlap[0])


@given(st.permutations(range(4)), st.permutations(range(4)), st.floats(0.05, 0.95))
def test_rank_agreement_is_that_of_the_sets(a, b, p) -> None:
    def scored(order: list[int]) -> list[float]:
        return [4.0 - order.index(unit) for unit in range(4)]

    result = rank_biased_overlap(rows(scored(a)), rows(scored(b)), ONE, persistence=p)
    back = rank_biased_overlap(rows(scored(b)), rows(scored(a)), ONE, persistence=p)
    assert result.overlap[0] == pytest.approx(naive(list(a), list(b), p))
    assert back.overlap[0] == pytest.approx(result.overlap[0])
    assert -1e-12 <= result.overlap[0] <= 1 + 1e-12


def test_only_positive_scores_are_ranked_to_the_shorter_depth() -> None:
    # 3 units against 2: compared to depth 2, orders 0 1 and 0 2
    result = rank_biased_overlap(
        rows([3.0, 2.0, 1.0, 0.0]), rows([2.0, 0.0, 1.0, -1.0]), ONE, persistence=0.5
    )
    assert result.overlap[0] == pytest.approx(naive([0, 1], [0, 2], 0.5))
    nothing = rank_biased_overlap(rows([3.0, 2.0, 1.0, 0.0]), rows([0.0] * 4), ONE)
    assert np.isnan([nothing.overlap[0], nothing.chance[0], nothing.adjusted[0]]).all()


@settings(max_examples=15)
@given(st.permutations(range(5)), st.permutations(range(5)))
def test_chance_is_the_mean_over_all_orders_within_sites(a, b) -> None:
    first, second = np.array(a, float) + 1, np.array(b, float) + 1
    orders = [
        [*x, *(2 + i for i in y)] for x in permutations(range(2)) for y in permutations(range(3))
    ]
    shuffled = rank_biased_overlap(
        ScoredSide(np.stack([first] * len(orders))), ScoredSide(second[np.array(orders)]), TWO
    )
    result = rank_biased_overlap(ScoredSide(first[None]), ScoredSide(second[None]), TWO)
    assert result.chance[0] == pytest.approx(shuffled.overlap.mean())
    room = 1 - result.chance[0]
    assert result.adjusted[0] == pytest.approx((result.overlap[0] - result.chance[0]) / room)


def test_chance_picks_among_the_units_live_on_either_side() -> None:
    a, b = np.array([[2.0, 1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 2.0, 0.0]])
    live_a, live_b = np.array([True, True, False, False]), np.array([False, True, True, False])
    result = rank_biased_overlap(ScoredSide(a, live_a), ScoredSide(b, live_b), ONE, persistence=0.5)
    # one of three meets with 1/3, two of three share 4/3 of 2: 2/3 / 4 + (1/3 / 2 + 2/3 / 4)
    assert result.chance[0] == pytest.approx(2 / 12 + 1 / 6 + 2 / 12)


def test_rankings_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="persistence must lie in"):
        rank_biased_overlap(rows([1.0] * 4), rows([1.0] * 4), ONE, persistence=1.0)
    with pytest.raises(ValueError, match="one shape"):
        rank_biased_overlap(rows([1.0] * 4), rows([1.0] * 3), ONE)
