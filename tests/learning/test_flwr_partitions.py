import sys

import numpy as np
import pytest

from fedcircuit.learning.flwr_partitions import from_partitioner


class Rows:
    """Stands for a table of the package datasets, which the tests do not install."""

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
