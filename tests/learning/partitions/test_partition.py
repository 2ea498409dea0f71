import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcircuit.learning.partitions import partition as partitions

LABELS = np.repeat(np.arange(4), [30, 40, 50, 60])


def test_a_class_map_gives_all_samples_of_a_class_to_each_of_its_owners() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])

    partition = partitions.by_classes(labels, [[0, 1], [1]], n_classes=3)

    assert [index.tolist() for index in partition.indices] == [[0, 1, 3, 4], [1, 4]]
    assert partition.notes == ("nobody holds class 2",)


@settings(max_examples=40)
@given(
    st.sampled_from(["iid", "dirichlet", "quantity"]),
    st.integers(1, 6),
    st.integers(0, 1000),
    st.floats(0.5, 20),
)
def test_every_sample_belongs_to_exactly_one_client(
    kind: str, n_clients: int, seed: int, alpha: float
) -> None:
    if kind == "iid":
        partition = partitions.iid(LABELS, n_clients, seed=seed)
    elif kind == "dirichlet":
        partition = partitions.dirichlet(
            LABELS, n_clients, n_classes=4, alpha=alpha, min_samples=3, seed=seed
        )
    else:
        partition = partitions.quantity_skew(
            LABELS, n_clients, alpha=alpha, min_samples=3, seed=seed
        )

    together = np.concatenate(partition.indices)
    assert sorted(together.tolist()) == list(range(len(LABELS)))
    assert len(partition.indices) == n_clients
    assert all(len(index) >= 3 and np.all(np.diff(index) > 0) for index in partition.indices)


def test_iid_sizes_differ_by_at_most_one() -> None:
    sizes = [len(index) for index in partitions.iid(LABELS, 7, seed=0).indices]

    assert max(sizes) - min(sizes) == 1


def test_sorted_samples_are_dealt_in_contiguous_parts() -> None:
    labels = np.array([2, 0, 1, 0, 2, 0, 1, 1])

    partition = partitions.label_sorted(labels, 3, seed=0)

    held = [sorted(labels[index].tolist()) for index in partition.indices]
    assert held == [[0, 0, 0], [1, 1, 1], [2, 2]]
    assert partition.indices[0].tolist() == [1, 3, 5]
    assert partition.kind == "sorted"


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=40), st.integers(1, 6), st.integers(0, 99))
def test_no_client_of_a_sorted_partition_holds_a_lower_label_than_one_before_it(
    values: list[int], n_clients: int, seed: int
) -> None:
    labels = np.array(values)
    parts = partitions.label_sorted(labels, n_clients, seed=seed).indices
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert np.concatenate([np.sort(labels[part]) for part in parts]).tolist() == sorted(values)


def test_who_shares_a_label_of_a_sorted_partition_is_drawn_by_the_seed() -> None:
    first, again, other = (partitions.label_sorted(LABELS, 7, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first.indices, again.indices, strict=True))
    assert first.indices[0].tolist() != other.indices[0].tolist()
    assert not np.array_equal(first.indices[0], np.arange(26))  # not the first of the file


def test_smaller_alpha_means_more_skew() -> None:
    def distance(alpha: float) -> float:
        partition = partitions.dirichlet(LABELS, 4, n_classes=4, alpha=alpha, min_samples=1, seed=3)
        return float(partitions.summary(partition, LABELS, n_classes=4).distance.mean())

    assert distance(0.1) > distance(1.0) > distance(100.0)


MANY = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 300))


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 200), st.floats(0.01, 20), st.integers(0, 1000))
def test_low_data_clients_have_as_many_images_as_asked_none_twice(
    n_clients: int, samples: int, alpha: float, seed: int
) -> None:
    partition = partitions.low_data(
        MANY, n_clients, n_classes=5, alpha=alpha, samples=samples, seed=seed
    )

    assert partition.kind == "low-data"
    assert [len(index) for index in partition.indices] == [samples] * n_clients
    assert all(np.all(np.diff(index) > 0) for index in partition.indices)
    assert all(0 <= index[0] and index[-1] < len(MANY) for index in partition.indices)


def test_the_mixes_of_low_data_clients_are_those_of_the_dirichlet_distribution() -> None:
    alpha, n_classes, samples = 0.4, 5, 200
    partition = partitions.low_data(
        MANY, 3000, n_classes=n_classes, alpha=alpha, samples=samples, seed=1
    )
    mixes = partitions.summary(partition, MANY, n_classes=n_classes).counts / samples

    # the moments of Dirichlet(alpha, ...): mean 1/K, variance (1/K)(1 - 1/K) / (K alpha + 1)
    variance = 1 / n_classes * (1 - 1 / n_classes) / (n_classes * alpha + 1)
    assert mixes.mean(0) == pytest.approx(np.full(n_classes, 0.2), abs=0.02)
    assert mixes.var(0) == pytest.approx(np.full(n_classes, variance), rel=0.08)


def test_images_of_a_class_are_drawn_evenly_and_shared_by_clients() -> None:
    partition = partitions.low_data(MANY, 400, n_classes=5, alpha=1, samples=100, seed=2)
    drawn = np.bincount(np.concatenate(partition.indices), minlength=len(MANY))

    for label in range(5):
        times = drawn[MANY == label]
        assert times.std() < 1.3 * np.sqrt(times.mean())  # about Poisson
        assert times.min() > 0
    assert partition.notes == ("clients may share images: 40000 places, 1500 images",)


def test_a_low_data_client_does_not_depend_on_how_many_others_there_are() -> None:
    def drawn(n_clients: int, seed: int) -> list[list[int]]:
        partition = partitions.low_data(
            MANY, n_clients, n_classes=5, alpha=0.1, samples=50, seed=seed
        )
        return [index.tolist() for index in partition.indices]

    few, many, other = drawn(3, 7), drawn(8, 7), drawn(3, 8)

    assert few == many[:3]
    assert all(a != b for a, b in zip(few, other, strict=True))
    assert len({tuple(index) for index in many}) == 8


def test_a_class_that_no_low_data_client_drew_is_noted() -> None:
    partition = partitions.low_data(MANY, 1, n_classes=5, alpha=0.01, samples=30, seed=0)
    held = set(MANY[partition.indices[0]].tolist())
    missing = ", ".join(str(label) for label in range(5) if label not in held)

    assert partition.notes[0] == "clients may share images: 30 places, 30 images"
    assert partition.notes[1:] == (f"nobody holds class {missing}",)


def test_the_summary_of_a_worked_example() -> None:
    labels = np.array([0, 0, 0, 1])
    partition = partitions.Partition("made", (np.array([0, 3]), np.array([1, 2])))

    summary = partitions.summary(partition, labels, n_classes=2)

    assert summary.counts.tolist() == [[1, 1], [2, 0]]
    assert summary.sizes.tolist() == [2, 2]
    assert summary.entropy.tolist() == pytest.approx([1.0, 0.0])
    assert summary.distance.tolist() == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: partitions.dirichlet(LABELS, 3, n_classes=4, alpha=-0.5, seed=0),
         "alpha must be > 0, got -0.5"),
        (lambda: partitions.quantity_skew(LABELS, 3, alpha=0, seed=0), "alpha must be > 0, got 0"),
        (lambda: partitions.iid(LABELS, 181, seed=0), "needs at least 181 samples.*have 180"),
        (lambda: partitions.dirichlet(LABELS, 30, n_classes=4, alpha=1, seed=0),
         "needs at least 300 samples"),
        (lambda: partitions.dirichlet(LABELS, 17, n_classes=4, alpha=0.01, seed=0),
         "no draw of .* raise alpha, lower min_samples"),
        (lambda: partitions.by_classes(LABELS, [[0], []], n_classes=4), "client 1 .* has no class"),
        (lambda: partitions.by_classes(LABELS, [[0, 4]], n_classes=4),
         "client 0 .* has class 4, the data have classes 0..3"),
        (lambda: partitions.by_classes(LABELS, [[0, 4]], n_classes=5), "class 4, of which the"),
        (lambda: partitions.iid(LABELS, 0, seed=0), "at least one client"),
        (lambda: partitions.label_sorted(LABELS, 181, seed=0), "needs at least 181 samples"),
        (lambda: partitions.low_data(LABELS, 0, n_classes=4, alpha=1, samples=5, seed=0),
         "at least one client .* got 0 clients of 5 samples"),
        (lambda: partitions.low_data(LABELS, 2, n_classes=4, alpha=1, samples=0, seed=0),
         "got 2 clients of 0 samples"),
        (lambda: partitions.low_data(LABELS, 2, n_classes=4, alpha=0, samples=5, seed=0),
         "alpha must be > 0, got 0"),
        (lambda: partitions.low_data(LABELS, 1, n_classes=4, alpha=1e6, samples=124, seed=0),
         "client 0 draws 31 images of class 0, of which the data have 30; use fewer samples "
         "a client .now 124., a larger alpha .now 1000000.0. or more data"),
    ],
)  # fmt: skip
def test_partitions_that_cannot_be_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
