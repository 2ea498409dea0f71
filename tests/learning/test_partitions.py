import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcircuit.learning import partitions

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


def test_smaller_alpha_means_more_skew() -> None:
    def distance(alpha: float) -> float:
        partition = partitions.dirichlet(LABELS, 4, n_classes=4, alpha=alpha, min_samples=1, seed=3)
        return float(partitions.summary(partition, LABELS, n_classes=4).distance.mean())

    assert distance(0.1) > distance(1.0) > distance(100.0)


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
    ],
)  # fmt: skip
def test_partitions_that_cannot_be_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
