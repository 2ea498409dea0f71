"""The pool keeps the shares of classes; rounds are spread evenly by their logarithm."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.analysis.information.pool import logarithmic_rounds, stratified_pool
from fedcircuit.samples import Samples


def samples(*counts: int) -> Samples:
    """So many of each class, mixed; the input is the position."""
    labels = torch.cat([torch.full((n,), index) for index, n in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    return Samples(torch.arange(len(labels))[:, None].float(), labels)


def test_classes_keep_their_shares() -> None:
    pool = stratified_pool(samples(50, 30, 0, 20), 10, seed=0)
    assert pool.counts(4).tolist() == [5, 3, 0, 2]


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(lambda c: sum(c) > 0),
    st.integers(1, 60),
    st.integers(0, 5),
)
def test_a_pool_is_a_part_of_the_size_asked_for_in_order(
    counts: list[int], size: int, seed: int
) -> None:
    whole = samples(*counts)
    pool = stratified_pool(whole, size, seed=seed)
    assert len(pool) == min(size, len(whole))
    places = pool.inputs[:, 0].long()
    assert torch.equal(places, places.unique())  # ascending, none twice
    assert torch.equal(pool.labels, whole.labels[places])
    for kept, there in zip(pool.counts(len(counts)).tolist(), counts, strict=True):
        assert abs(kept - there * len(pool) / len(whole)) < 1


def test_the_seed_decides_which_samples() -> None:
    whole = samples(40, 40)
    first, again = (stratified_pool(whole, 20, seed=4).inputs for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, stratified_pool(whole, 20, seed=5).inputs)


def test_a_pool_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample, got size 0"):
        stratified_pool(samples(3), 0, seed=0)


def test_rounds_of_a_long_run_by_hand() -> None:
    assert logarithmic_rounds(100, per_decade=4) == (1, 2, 3, 6, 10, 18, 32, 56, 100)
    assert logarithmic_rounds(40, per_decade=4) == (1, 2, 3, 6, 10, 18, 32, 40)
    assert logarithmic_rounds(1) == (1,)
    # 1 2 3 4 5 6 8, then 10 ** 1.0, 1.1, ... 3.6, and the last
    assert len(logarithmic_rounds(4000)) == 7 + 27 + 1


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 20))
def test_a_longer_run_is_looked_at_in_the_same_rounds(one: int, two: int, density: int) -> None:
    short, long = sorted((one, two))
    here = set(logarithmic_rounds(short, per_decade=density))
    there = {n for n in logarithmic_rounds(long, per_decade=density) if n <= short}
    assert here - {short} == there - {short}
    assert min(here) == 1
    assert max(here) == short


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="must be >= 1, got 0 and 10"):
        logarithmic_rounds(0)
