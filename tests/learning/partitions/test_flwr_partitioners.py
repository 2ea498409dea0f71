import sys

import numpy as np
import pytest

from fedcircuit.learning.partitions.flwr_partitioners import from_partitioner, partitioner


class Rows:
    """Stands for a table of the package datasets, so that positions can be given by hand."""

    def __init__(self, rows: dict[str, list[int]]) -> None:
        self.rows = rows

    @classmethod
    def from_dict(cls, rows: dict[str, list[int]]) -> "Rows":
        return cls(rows)


class EveryOther:
    """Client 0 gets even positions backwards, client 1 the first odd one, the rest is dropped."""

    num_partitions = 2
    dataset: Rows

    def load_partition(self, partition_id: int) -> dict[str, list[int]]:
        positions = self.dataset.rows["position"]
        return {"position": positions[::2][::-1] if partition_id == 0 else positions[1:2]}


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("datasets")
    module.Dataset = Rows
    monkeypatch.setitem(sys.modules, "datasets", module)


@pytest.mark.usefixtures("datasets")
def test_positions_are_sorted_and_what_nobody_got_is_noted() -> None:
    partition = from_partitioner(EveryOther(), np.array([3, 1, 4, 1, 5]))

    assert [part.tolist() for part in partition.indices] == [[0, 2, 4], [1]]
    assert partition.kind == "EveryOther"
    assert partition.notes == ("1 of 5 samples belong to nobody",)


@pytest.mark.usefixtures("datasets")
def test_a_client_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="gives client 1 no sample"):
        from_partitioner(EveryOther(), np.array([3]))


def test_without_the_extra_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(ImportError, match=r'pip install "fedcircuit\[data\]"'):
        from_partitioner(EveryOther(), np.array([0, 1]))

    monkeypatch.setitem(sys.modules, "flwr_datasets", None)
    with pytest.raises(ImportError, match=r'pip install "fedcircuit\[data\]"'):
        partitioner("IidPartitioner", {}, 2, seed=0)


LABELS = np.repeat(np.arange(5), 20)


def test_real_partitioners_get_clients_labels_and_seed() -> None:
    def drawn(seed: int) -> list[list[int]]:
        made = partitioner(
            "PathologicalPartitioner", {"num_classes_per_partition": 2}, 5, seed=seed
        )
        return [part.tolist() for part in from_partitioner(made, LABELS).indices]

    once = drawn(1)

    assert [len(set(LABELS[part])) for part in once] == [2] * 5
    assert once == drawn(1)
    assert once != drawn(2)


def test_partitioners_that_take_neither_labels_nor_seed_work() -> None:
    partition = from_partitioner(partitioner("LinearPartitioner", {}, 4, seed=0), LABELS)

    assert [len(part) for part in partition.indices] == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Pathological", {}, "has no partitioner 'Pathological'; it has Continuous"),
        ("Partitioner", {}, "has no partitioner 'Partitioner'"),
        ("ShardPartitioner", {"shards": 2}, "'shards'; ShardPartitioner takes the options num_sh"),
        ("DirichletPartitioner", {}, "'alpha'; DirichletPartitioner takes the options alpha"),
        ("DirichletPartitioner", {"alpha": -1}, "takes the options alpha"),
    ],
)
def test_a_partitioner_that_cannot_be_made_names_what_it_takes(
    name: str, options: dict[str, int], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        partitioner(name, options, 3, seed=0)
