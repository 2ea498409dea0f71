import math
from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.overlap.jaccard import Side, paired_overlaps
from fedcircuit.circuits.overlap.weighted_iou import ScoredSide, weighted_overlaps

SITES = (Site("a", 3, 1, "a"), Site("b", 4, -1, "b"))
ONE = (Site("x", 4, 1, "x"),)


def rows(*values: list[float]) -> ScoredSide:
    return ScoredSide(np.array(values))


def ruzicka(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.maximum(a, 0) / np.maximum(a, 0).sum(), np.maximum(b, 0) / np.maximum(b, 0).sum()
    return np.minimum(a, b).sum() / np.maximum(a, b).sum()


def test_one_layer_by_hand() -> None:
    # weights .75 .25 0 0 and .25 0 .75 0: minima sum to .25, maxima to 1.75
    table = weighted_overlaps(rows([3.0, 1.0, -5.0, 0.0]), rows([2.0, 0.0, 6.0, -1.0]), ONE)
    assert table.layers == ("x", "all")
    assert table.shared[0].tolist() == [0.25, 0.25]
    assert table.iou[0] == pytest.approx([1 / 7, 1 / 7])
    # every pair of units is as likely as any other: minima of the 16 pairs / 4
    # .75 meets .25 and .75: 1; .25 meets .25 and .75: .5
    assert table.shared_chance[0, 0] == pytest.approx(1.5 / 4)
    assert table.n_undefined.tolist() == [0, 0]


def test_layers_have_weights_of_their_own() -> None:
    a, b = [3.0, 1.0, 0.0, 4.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0, 6.0, 0.0, 0.0]
    table = weighted_overlaps(rows(a), rows(b), SITES)
    assert table.shared[0, 0] == pytest.approx(0.75)  # .75 .25 against .5 .5
    assert table.shared[0, 1] == 0.0
    assert table.shared[0, 2] == pytest.approx(0.25)  # 3/8 1/8 4/8 against 1/8 1/8 6/8


def shuffles(sites):
    """Every order of the units that keeps them in their site."""
    starts = np.cumsum([0, *(site.n_units for site in sites)])
    parts = [permutations(range(s, e)) for s, e in pairwise(starts)]
    return [np.array(sum(order, ())) for order in product(*parts)]


score = st.one_of(st.just(0.0), st.floats(0.01, 1.0), st.floats(-1.0, 0.0))
scores = st.lists(score, min_size=7, max_size=7).filter(lambda s: max(s) > 0)


@settings(max_examples=15)
@given(scores, scores)
def test_moments_of_the_shared_mass_are_those_of_all_orders(a, b) -> None:
    table = weighted_overlaps(rows(a), rows(b), SITES)
    first, second = (np.maximum(x, 0) / np.maximum(x, 0).sum() for x in (a, b))
    masses = np.array([np.minimum(first, second[order]).sum() for order in shuffles(SITES)])
    assert table.shared_chance[0, -1] == pytest.approx(masses.mean(), abs=1e-12)
    # f(m) = m / (2 - m), so f'' / 2 = 2 / (2 - m)^3
    mean = masses.mean()
    expected = mean / (2 - mean) + 2 * masses.var() / (2 - mean) ** 3
    assert table.chance[0, -1] == pytest.approx(min(expected, 1.0), abs=1e-12)
    assert table.iou[0, -1] == pytest.approx(ruzicka(np.array(a), np.array(b)), abs=1e-12)


def test_chance_agrees_with_random_orders_at_the_size_of_a_network() -> None:
    random = np.random.default_rng(0)
    sites = (Site("a", 32, 1, "a"), Site("b", 64, 1, "b"), Site("c", 128, 1, "c"))
    a, b = (np.maximum(random.normal(size=224), 0) ** 2 for _ in range(2))
    starts = (0, 32, 96, 224)
    orders = [
        np.concatenate([random.permutation(np.arange(s, e)) for s, e in pairwise(starts)])
        for _ in range(2000)
    ]
    simulated = [ruzicka(a, b[order]) for order in orders]
    error = 4 * np.std(simulated) / math.sqrt(len(simulated))
    table = weighted_overlaps(rows(a), rows(b), sites)
    assert table.chance[0, -1] == pytest.approx(np.mean(simulated), abs=error)
    assert error < 0.004


def test_equal_scores_on_circuits_of_equal_size_give_the_plain_iou() -> None:
    random = torch.Generator().manual_seed(1)
    sites = (Site("x", 100, 1, "x"),)
    masks = torch.zeros(6, 100).scatter_(
        1, torch.rand(6, 100, generator=random).argsort(1)[:, :30], torch.ones(6, 30)
    )
    a, b = masks[:3] > 0, masks[3:] > 0
    hard = paired_overlaps(Side(a), Side(b), sites)
    soft = weighted_overlaps(ScoredSide(masks[:3] * 7), ScoredSide(masks[3:] / 3), sites)
    np.testing.assert_allclose(soft.iou, hard.iou, atol=1e-12)
    np.testing.assert_allclose(soft.chance, hard.chance, atol=2e-4)
    np.testing.assert_allclose(soft.adjusted, hard.adjusted, atol=3e-4)


@given(scores, scores, st.floats(0.1, 10))
def test_laws_of_the_weighted_iou(a, b, scale) -> None:
    there = weighted_overlaps(rows(a), rows(b), SITES)
    back = weighted_overlaps(rows(b), rows([x * scale for x in a]), SITES)
    for name in ("iou", "chance", "shared", "adjusted"):
        np.testing.assert_allclose(getattr(there, name), getattr(back, name), atol=1e-9)
    known = ~np.isnan(there.iou)
    assert known[0, -1]
    assert (there.iou[known] >= 0).all()
    assert (there.iou[known] <= 1 + 1e-12).all()
    own = weighted_overlaps(rows(a), rows(a), SITES)
    assert own.iou[0, -1] == pytest.approx(1.0)
    assert np.isnan(own.adjusted[0, -1]) or own.adjusted[0, -1] == pytest.approx(1.0)


def test_a_row_without_a_positive_score_has_no_weighted_iou() -> None:
    nothing, nan = [0.0, -1.0, 0.0, -2.0], [1.0, math.nan, 1.0, 1.0]
    table = weighted_overlaps(
        rows(nothing, nan, [1.0] * 4, nothing), rows([1.0] * 4, [1.0] * 4, nothing, nothing), ONE
    )
    for name in ("iou", "chance", "adjusted", "shared", "shared_chance"):
        assert np.isnan(getattr(table, name)).all()
    assert table.n_undefined.tolist() == [4, 4]


def test_equal_weights_everywhere_say_nothing() -> None:
    table = weighted_overlaps(rows([1.0] * 4), rows([2.0] * 4), ONE)
    assert table.iou[0, 0] == pytest.approx(1.0)
    assert table.chance[0, 0] == pytest.approx(1.0)
    assert np.isnan(table.adjusted[0, 0])


def test_units_that_are_not_live_weigh_nothing_and_are_no_pool() -> None:
    a, b = np.array([[3.0, 1.0, 9.0, 0.0]]), np.array([[1.0, 0.0, 9.0, 3.0]])
    live = np.array([True, True, False, True])
    with_live = weighted_overlaps(ScoredSide(a, live), ScoredSide(b, live), ONE)
    without = weighted_overlaps(
        ScoredSide(a[:, live]), ScoredSide(b[:, live]), (Site("x", 3, 1, "x"),)
    )
    for name in ("iou", "chance", "adjusted"):
        np.testing.assert_allclose(getattr(with_live, name), getattr(without, name))


def test_the_pool_of_two_models_is_what_is_live_in_either() -> None:
    a, b = np.array([[3.0, 1.0, 0.0, 0.0]]), np.array([[1.0, 0.0, 3.0, 0.0]])
    live_a, live_b = np.array([True, True, False, False]), np.array([True, False, True, False])
    table = weighted_overlaps(ScoredSide(a, live_a), ScoredSide(b, live_b), ONE)
    # three units: .75 and .25 of each meet one another in 4 of 9 places
    assert table.shared_chance[0, 0] == pytest.approx((0.75 + 3 * 0.25) / 3)


def test_many_pairs_are_the_pairs_one_by_one() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(size=(2, 150, 7))
    live = random.random((150, 7)) < 0.8
    table = weighted_overlaps(ScoredSide(a, live), ScoredSide(b), SITES)
    for index in (0, 63, 64, 149):
        one = weighted_overlaps(
            ScoredSide(a[[index]], live[[index]]), ScoredSide(b[[index]]), SITES
        )
        np.testing.assert_allclose(one.chance[0], table.chance[index], atol=1e-12)
        np.testing.assert_allclose(one.iou[0], table.iou[index], atol=1e-12)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 units in the sites"):
        weighted_overlaps(rows([1.0, 2.0, 3.0]), rows([1.0, 2.0, 3.0]), ONE)
    with pytest.raises(ValueError, match="scores must both be"):
        weighted_overlaps(rows([1.0] * 4, [1.0] * 4), rows([1.0] * 4), ONE)
