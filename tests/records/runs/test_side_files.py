"""What a run keeps beside its rounds: evaluations, failed rounds, the partition."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from record_examples import a_round, identical

from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.runs.side_files import read_evidence
from fedcircuit.records.runs.store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "run", {"name": "run"})


def test_evaluations_come_later_and_are_never_overwritten(store: RunStore) -> None:
    store.append(a_round(0))
    store.append(a_round(1))
    store.add_evaluation(1, {"accuracy": 0.5, "loss": float("nan")})
    store.add_evaluation(0, {"accuracy": 0.25})
    store.add_evaluation(1, {"server_accuracy": 0.75})
    with pytest.raises(RunError, match="round 1 has an evaluation of accuracy already"):
        store.add_evaluation(1, {"accuracy": 0.9})
    with pytest.raises(RunError, match="no round 2"):
        store.add_evaluation(2, {"accuracy": 0.9})
    text = (store.path / "evaluations.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(len(line.pop("line")) == 22 for line in lines)
    assert lines == [
        {"round": 1, "metrics": {"accuracy": 0.5, "loss": None}},
        {"round": 0, "metrics": {"accuracy": 0.25}},
        {"round": 1, "metrics": {"server_accuracy": 0.75}},
    ]


def test_a_failed_round_is_kept_beside_and_never_counts(store: RunStore) -> None:
    store.append(a_round(0))
    first = store.add_evidence(a_round(1), "division by zero")
    second = store.add_evidence(a_round(1, seed=1), "again")
    assert store.rounds() == (0,)
    assert identical(read_evidence(first, store.seal), (a_round(1), "division by zero"))
    assert identical(read_evidence(second, store.seal), (a_round(1, seed=1), "again"))
    store.append(a_round(1, seed=2))
    assert identical(store.read(1), a_round(1, seed=2))


@pytest.mark.parametrize(("updates", "kept"), [("none", 0), ("delta-fp16", 3), ("full", 3)])
def test_evidence_keeps_client_weights_only_where_rounds_may(
    tmp_path: Path, updates: str, kept: int
) -> None:
    store = RunStore.create(tmp_path / "run", {"storage": {"updates": updates}})
    record, _ = read_evidence(store.add_evidence(a_round(1), "x"), store.seal)
    assert [len(client.weights) for client in record.clients] == [kept, kept]


def test_the_partition_is_written_once(store: RunStore) -> None:
    assert store.read_partition() is None
    payload = {"kind": "dirichlet", "indices": [np.arange(3), (7, 8)], "alpha": np.float64(0.5)}
    store.write_partition(payload)
    store.write_partition(payload)  # as a resumed run does
    assert store.read_partition() == {
        "kind": "dirichlet", "indices": [[0, 1, 2], [7, 8]], "alpha": 0.5,
    }  # fmt: skip
    with pytest.raises(RunError, match="another partition"):
        store.write_partition({"kind": "iid"})
