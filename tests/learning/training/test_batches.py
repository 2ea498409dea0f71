"""Mini-batches: those of epochs, and those of one endless sequence."""

from itertools import chain
from math import ceil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.learning.training.batches import Passes, batches_from, batches_of_epochs


def lists(batches: object) -> list[list[int]]:
    return [batch.tolist() for batch in batches]  # type: ignore[attr-defined]


sizes = st.tuples(st.integers(1, 20), st.integers(1, 25))  # samples, and samples of a mini-batch


@given(sizes, st.integers(1, 4), st.integers(0, 2**63 - 1))
def test_every_epoch_takes_every_sample_once(
    n_size: tuple[int, int], epochs: int, seed: int
) -> None:
    n, size = n_size
    batches = lists(batches_of_epochs(Passes(n, size), epochs, seed=seed))
    of_epoch = ceil(n / size)
    assert len(batches) == epochs * of_epoch
    for epoch in range(epochs):
        own = batches[epoch * of_epoch : (epoch + 1) * of_epoch]
        assert sorted(chain(*own)) == list(range(n))
        assert [len(batch) for batch in own[:-1]] == [size] * (of_epoch - 1)


@given(sizes, st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 1000))
def test_rounds_of_any_lengths_together_take_one_sequence(
    n_size: tuple[int, int], rounds: list[int], seed: int
) -> None:
    n, size = n_size
    whole = lists(batches_from(Passes(n, size), sum(rounds), seed=seed))
    pieces, first = [], 0
    for steps in rounds:
        pieces += lists(batches_from(Passes(n, size), steps, seed=seed, first=first))
        first += steps
    assert pieces == whole


@given(sizes, st.integers(0, 9), st.integers(0, 1000))
def test_a_pass_of_the_sequence_takes_every_sample_once(
    n_size: tuple[int, int], number: int, seed: int
) -> None:
    n, size = n_size
    of_pass = ceil(n / size)
    one = lists(batches_from(Passes(n, size), of_pass, seed=seed, first=number * of_pass))
    assert sorted(chain(*one)) == list(range(n))


def test_passes_and_seeds_have_orders_of_their_own() -> None:
    first, second = (
        lists(batches_from(Passes(30, 30), 1, seed=0, first=place)) for place in (0, 1)
    )
    other = lists(batches_from(Passes(30, 30), 1, seed=1))
    assert first != second
    assert first != other
    assert first != [list(range(30))]


def test_a_pass_of_five_samples_by_two_ends_with_the_one_that_is_left() -> None:
    assert [len(batch) for batch in batches_from(Passes(5, 2), 7, seed=3)] == [2, 2, 1, 2, 2, 1, 2]
    assert [len(batch) for batch in batches_from(Passes(5, 2), 2, seed=3, first=2)] == [1, 2]


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    lists(batches_from(Passes(5, 2), 9, seed=3))
    lists(batches_of_epochs(Passes(5, 2), 2, seed=3))
    assert torch.equal(before, torch.get_rng_state())


def test_a_negative_place_is_refused() -> None:
    with pytest.raises(ValueError, match="number >= 0, got -1"):
        batches_from(Passes(5, 2), 1, seed=0, first=-1)


@given(sizes, st.integers(0, 1000))
def test_a_single_sample_that_is_left_joins_the_mini_batch_before_it(
    n_size: tuple[int, int], seed: int
) -> None:
    n, size = n_size
    plain, joined = Passes(n, size), Passes(n, size, join_single=True)
    batches = lists(joined.cut(seed))
    assert len(batches) == joined.steps
    assert list(chain(*batches)) == list(chain(*lists(plain.cut(seed))))
    if size == 1 or n == 1:
        assert batches == lists(plain.cut(seed))
    else:
        assert min(map(len, batches)) > 1
        assert max(map(len, batches)) <= size + 1


def test_an_endless_sequence_counts_the_joined_mini_batches() -> None:
    passes = Passes(5, 2, join_single=True)
    assert [len(batch) for batch in batches_from(passes, 5, seed=3)] == [2, 3, 2, 3, 2]
    whole = lists(batches_from(passes, 7, seed=3))
    assert lists(batches_from(passes, 4, seed=3, first=3)) == whole[3:]
