from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcircuit.learning.apportion import largest_remainder
from fedcircuit.learning.partitions import partition as partitions
from fedcircuit.learning.partitions.partition import Partition
from fedcircuit.learning.partitions.personal_tests import personal_test


def test_a_personal_test_set_has_the_mix_of_the_clients_training_samples() -> None:
    train = np.array([0, 0, 0, 1, 2, 2])
    test = np.array([2, 1, 0, 2, 1, 0, 0, 0, 0, 2])  # places of 0: 2 5 6 7 8, 1: 1 4, 2: 0 3 9
    partition = Partition("made", (np.array([0, 1, 2, 3]), np.array([4, 5]), np.array([3])))

    mixed, of_2, of_1 = personal_test(partition, train, test, samples=3, n_classes=4, seed=0)

    # 3 : 1 in three samples is 2.25 : 0.75, that is 2 : 1
    assert np.bincount(test[mixed]).tolist() == [2, 1]
    assert of_2.tolist() == [0, 3, 9]  # all there are
    assert of_1.tolist() == [1, 4]  # only two there are: a smaller set
    assert all(index.dtype == np.int64 for index in (mixed, of_2, of_1))


def test_too_few_of_one_class_make_the_set_smaller_in_the_same_mix() -> None:
    train = np.repeat([0, 1, 2], [60, 30, 10])
    test = np.repeat([0, 1, 2], [100, 6, 50])
    partition = Partition("made", (np.arange(100),))

    (index,) = personal_test(partition, train, test, samples=40, n_classes=3, seed=1)

    # 21 samples are 12.6, 6.3, 2.1, which round to 13, 6, 2; 22 are 13.2, 6.6, 2.2, which need a
    # seventh of class 1
    assert np.bincount(test[index]).tolist() == [13, 6, 2]


def brute_force_counts(mix: np.ndarray, available: np.ndarray, samples: int) -> np.ndarray:
    fitting = [largest_remainder(mix, n) for n in range(samples + 1)]
    return [counts for counts in fitting if (counts <= available).all()][-1]


mixes = st.lists(st.integers(0, 12), min_size=4, max_size=4).filter(any)


@settings(max_examples=80)
@given(st.lists(mixes, min_size=1, max_size=3), st.lists(st.integers(1, 9), min_size=4, max_size=4),
       st.integers(1, 60), st.integers(0, 1000))  # fmt: skip
def test_every_set_is_the_largest_in_its_mix_that_the_test_labels_allow(
    mixes: list[list[int]], available: list[int], samples: int, seed: int
) -> None:
    train = np.concatenate([np.repeat(np.arange(4), mix) for mix in mixes])
    ends = np.cumsum([sum(mix) for mix in mixes])
    partition = Partition("made", tuple(np.split(np.arange(len(train)), ends[:-1])))
    test = np.random.default_rng(seed).permutation(np.repeat(np.arange(4), available))

    sets = personal_test(partition, train, test, samples=samples, n_classes=4, seed=seed)

    assert len(sets) == len(mixes)
    for index, mix in zip(sets, mixes, strict=True):
        counts = np.bincount(test[index], minlength=4)
        expected = brute_force_counts(np.array(mix), np.array(available), samples)
        assert counts.tolist() == expected.tolist()
        assert 1 <= len(index) <= samples
        assert np.all(np.diff(index) > 0)
        for count, part in zip(counts.tolist(), mix, strict=True):
            assert abs(count - Fraction(part * len(index), sum(mix))) < 1


LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 200))


@pytest.mark.parametrize(
    "partition",
    [
        partitions.iid(LABELS, 7, seed=0),
        partitions.by_classes(LABELS, [[0, 1], [1, 4]], n_classes=5),
        partitions.dirichlet(LABELS, 6, n_classes=5, alpha=0.3, seed=0),
        partitions.quantity_skew(LABELS, 6, alpha=0.5, seed=0),
        partitions.low_data(LABELS, 9, n_classes=5, alpha=0.1, samples=100, seed=0),
    ],
    ids=lambda partition: partition.kind,
)
def test_it_works_for_partitions_of_every_kind(partition: Partition) -> None:
    test = np.tile(np.arange(5), 100)

    sets = personal_test(partition, LABELS, test, samples=100, n_classes=5, seed=3)

    assert len(sets) == len(partition.indices)
    for own, index in zip(partition.indices, sets, strict=True):
        mix = np.bincount(LABELS[own], minlength=5) / len(own)
        got = np.bincount(test[index], minlength=5)
        assert len(index) == 100
        assert (np.abs(got - 100 * mix) < 1).all()
        assert (got[mix == 0] == 0).all()


def test_images_are_drawn_evenly_by_seed_and_client_and_clients_share_them() -> None:
    partition = Partition("made", tuple(np.arange(1000) for _ in range(200)))
    test = np.tile(np.arange(5), 40)

    def sets(seed: int) -> list[list[int]]:
        drawn = personal_test(partition, LABELS, test, samples=50, n_classes=5, seed=seed)
        return [index.tolist() for index in drawn]

    once = sets(4)
    times = np.bincount(np.concatenate(once), minlength=200)

    assert once == sets(4)
    assert all(a != b for a, b in zip(once, sets(5), strict=True))
    assert len({tuple(index) for index in once}) == 200
    assert times.mean() == 50  # 200 sets of 50 out of 200 images
    assert abs(times - 50).max() < 6 * np.sqrt(200 * 0.25 * 0.75)


def test_a_class_without_test_images_and_a_set_of_none_are_refused() -> None:
    partition = Partition("made", (np.array([0]), np.array([0, 1])))
    train, test = np.array([0, 2]), np.array([0, 0, 1])

    with pytest.raises(ValueError, match="client 1 trains on class 2, of which there is no test"):
        personal_test(partition, train, test, samples=1, n_classes=3, seed=0)
    with pytest.raises(ValueError, match="at least one sample, got 0"):
        personal_test(partition, train, test, samples=0, n_classes=3, seed=0)
