"""Clients that the data come with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.learning.partitions.natural_clients import natural


def test_every_value_is_a_client_in_the_order_of_the_values() -> None:
    partition = natural(np.array(["w2", "w1", "w2", "w3"]), "writer")

    assert [part.tolist() for part in partition.indices] == [[1], [0, 2], [3]]
    assert partition.names == ("w1", "w2", "w3")
    assert natural(np.array([10, 9, 10]), "site").names == ("9", "10")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_every_sample_goes_to_the_client_of_its_value(values: list[int]) -> None:
    partition = natural(np.array(values), "site")

    for name, part in zip(partition.names, partition.indices, strict=True):
        assert part.tolist() == [i for i, value in enumerate(values) if str(value) == name]
    assert sum(map(len, partition.indices)) == len(values)


def test_fewer_clients_are_drawn_and_the_note_says_so() -> None:
    values = np.repeat(np.arange(20), 3)
    drawn = [natural(values, "writer", 5, seed=seed) for seed in (0, 0, 1)]

    assert drawn[0].names == drawn[1].names != drawn[2].names
    assert all(len(set(values[part])) == 1 and len(part) == 3 for part in drawn[0].indices)
    assert "5 of 20 values of 'writer' drawn; 45 samples" in drawn[0].notes[1]


def test_more_clients_than_values_are_refused() -> None:
    with pytest.raises(ValueError, match="'site' has 2 values.*partition.clients is 3"):
        natural(np.array([0, 1]), "site", 3)
