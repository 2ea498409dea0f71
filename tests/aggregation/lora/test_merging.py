"""Merging LoRA factors: by hand, exact where it must be, and the energy that truncation loses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.aggregation.lora import (
    FactorPair,
    merge,
    merge_factors,
    merge_freeze_a,
    merge_product,
)

MODES = ("factors", "product", "freeze_A")


def pairs_of(ranks: list[int], seed: int, outputs: int = 7, inputs: int = 5) -> list[FactorPair]:
    rng = np.random.default_rng(seed)
    return [
        FactorPair(rng.normal(size=(rank, inputs)), rng.normal(size=(outputs, rank)))
        for rank in ranks
    ]


def mean_of_products(pairs: list[FactorPair], weights: list[float]) -> np.ndarray:
    return sum(w * (pair.b @ pair.a) for w, pair in zip(weights, pairs, strict=True))


def test_averaging_factors_by_hand_loses_what_the_products_have() -> None:
    # B A: client 1 (1)(2) = 2, client 2 (3)(4) = 12: mean 7; of the means (2)(3) = 6
    pairs = [FactorPair([[2.0]], [[1.0]]), FactorPair([[4.0]], [[3.0]])]
    made = merge_factors(pairs, [0.5, 0.5])
    assert made.pair.a.tolist() == [[3.0]]
    assert made.pair.b.tolist() == [[2.0]]
    assert made.lost_energy == pytest.approx(1 / 49)
    exact = merge_product(pairs, [0.5, 0.5])
    assert exact.pair.product[0, 0] == pytest.approx(7.0)
    assert exact.lost_energy == 0.0


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 10**6))
def test_the_product_is_exact_with_the_sum_of_the_ranks(ranks: list[int], seed: int) -> None:
    pairs = pairs_of(ranks, seed)
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(ranks))).tolist()
    made = merge_product(pairs, weights, rank=sum(ranks))
    assert made.pair.a.shape == (sum(ranks), 5)
    np.testing.assert_allclose(made.pair.product, mean_of_products(pairs, weights), atol=1e-10)
    assert made.lost_energy == pytest.approx(0.0, abs=1e-20)


@given(st.integers(1, 4), st.integers(0, 10**6))
def test_the_truncated_product_is_that_of_the_whole_matrix(rank: int, seed: int) -> None:
    pairs, weights = pairs_of([2, 2], seed), [0.3, 0.7]
    u, values, v = np.linalg.svd(mean_of_products(pairs, weights))
    made = merge_product(pairs, weights, rank=rank)
    best = (u[:, :rank] * values[:rank]) @ v[:rank]
    np.testing.assert_allclose(made.pair.product, best, atol=1e-9)
    lost = (values[rank:] ** 2).sum() / (values**2).sum()
    assert made.lost_energy == pytest.approx(lost, abs=1e-12)


@given(st.integers(0, 10**6))
def test_the_product_loses_no_more_than_averaged_factors(seed: int) -> None:
    pairs, weights = pairs_of([2, 2, 2], seed), [0.2, 0.3, 0.5]
    factors = merge_factors(pairs, weights)
    wanted = mean_of_products(pairs, weights)
    lost = ((wanted - factors.pair.product) ** 2).sum() / (wanted**2).sum()
    assert factors.lost_energy == pytest.approx(lost)
    assert merge_product(pairs, weights).lost_energy <= factors.lost_energy + 1e-12


@pytest.mark.parametrize("mode", MODES)
def test_with_one_client_all_modes_give_its_product(mode: str) -> None:
    (pair,) = pairs_of([2], 3)
    made = merge(mode, [pair], [1.0])
    np.testing.assert_allclose(made.pair.product, pair.product, atol=1e-12)
    assert made.pair.a.shape == pair.a.shape
    assert made.pair.b.shape == pair.b.shape
    assert made.lost_energy == pytest.approx(0.0, abs=1e-20)


def test_a_frozen_a_is_kept_and_averaging_b_is_exact() -> None:
    pairs = pairs_of([2, 2], 4)
    pairs = [FactorPair(pairs[0].a, pair.b) for pair in pairs]
    made = merge_freeze_a(pairs, [0.25, 0.75])
    assert made.pair.a.tolist() == pairs[0].a.tolist()
    np.testing.assert_allclose(made.pair.product, mean_of_products(pairs, [0.25, 0.75]))
    assert made.lost_energy == pytest.approx(0.0, abs=1e-20)


def test_factors_that_are_all_zero_lose_nothing_and_keep_their_shape() -> None:
    pair = FactorPair(np.ones((2, 5)), np.zeros((7, 2)))  # B as it starts
    for mode in MODES:
        made = merge(mode, [pair, pair], [0.5, 0.5])
        assert not made.pair.product.any()
        assert made.lost_energy == 0.0


def test_products_that_cancel_have_no_energy_to_compare_with() -> None:
    pairs = [FactorPair([[1.0]], [[1.0]]), FactorPair([[-1.0]], [[1.0]])]
    assert merge_factors(pairs, [0.5, 0.5]).lost_energy == 0.0
    halves = [FactorPair([[1.0]], [[1.0]]), FactorPair([[-0.5]], [[2.0]])]
    assert np.isnan(merge_factors(halves, [0.5, 0.5]).lost_energy)


def test_the_order_of_the_clients_does_not_matter() -> None:
    pairs, weights = pairs_of([2, 2, 2], 8), [0.2, 0.3, 0.5]
    for mode in ("factors", "product"):
        one = merge(mode, pairs, weights).pair.product
        other = merge(mode, pairs[::-1], weights[::-1]).pair.product
        np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize(
    ("mode", "ranks", "weights", "words"),
    [
        ("median", [2, 2], [0.5, 0.5], "mode must be one of"),
        ("factors", [2, 2], [1.0], "expected one weight for each"),
        ("factors", [], [], "expected one weight for each"),
        ("product", [2, 2], [0.5, 0.6], "sum to 1"),
        ("product", [2, 2], [-0.5, 1.5], "must be >= 0"),
        ("factors", [2, 1], [0.5, 0.5], "same shapes; the first has A"),
        ("freeze_A", [2, 2], [0.5, 0.5], r"same A in all clients, those at \[1\]"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    mode: str, ranks: list[int], weights: list[float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        merge(mode, pairs_of(ranks, 0), weights)


def test_odd_factors_and_a_rank_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got A \(2, 5\) and B \(7, 3\)"):
        FactorPair(np.zeros((2, 5)), np.zeros((7, 3)))
    with pytest.raises(ValueError, match="rank must be >= 1"):
        merge_product(pairs_of([2], 0), [1.0], rank=0)
    with pytest.raises(ValueError, match=r"ranks may differ"):
        merge_product([*pairs_of([2], 0), *pairs_of([2], 0, inputs=4)], [0.5, 0.5])
