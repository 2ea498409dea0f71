"""What clients started from, where that were others than the global weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from record_examples import identical

from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.rounds.client_weights import Storage
from fedcircuit.records.rounds.round_record import ClientRecord, RoundRecord
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore


def run_of(path: Path, *records: RoundRecord, storage: Storage | None = None) -> Run:
    with RunStore.create(path / "run", {}, storage) as store:
        for record in records:
            store.append(record)
    return Run.load(path / "run")


def test_what_a_client_started_from_is_the_global_model_but_for_what_it_received(
    tmp_path: Path,
) -> None:
    start = {"w": np.array([1.0, 2.0, 3.0], np.float32), "b": np.array([4.0], np.float32)}
    masked = {"w": np.array([0.0, 2.0, 0.0], np.float32)}
    clients = (
        ClientRecord("0", 5, start),
        ClientRecord("1", 5, start, received=masked),
        ClientRecord("2", 5, start, received=dict(masked)),
    )
    run = run_of(tmp_path, RoundRecord(0, start), RoundRecord(1, start, clients))

    assert identical(run.start_of(1, "0"), start)
    assert identical(run.start_of(1, "1"), {"w": masked["w"], "b": start["b"]})
    assert identical(run.start_of(1, "2"), run.start_of(1, "1"))
    assert identical(run.record(1).clients, clients)
    with pytest.raises(RunError, match=r"client '7' has no part in round 1; clients: 0, 1, 2"):
        run.start_of(1, "7")


def test_a_download_that_clients_share_is_stored_once(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    zero = {"w": np.zeros(5000, np.float32)}

    def size(n_clients: int, received: dict[str, np.ndarray]) -> int:
        clients = tuple(ClientRecord(str(i), 5, zero, received=received) for i in range(n_clients))
        run = run_of(tmp_path / f"{n_clients}-{len(received)}", RoundRecord(0, zero, clients))
        return sum(file.stat().st_size for file in run.path.rglob("*.safetensors"))

    one, four = (size(n, {"w": values}) - size(n, {}) for n in (1, 4))

    assert values.nbytes < one < four < 1.1 * values.nbytes


def test_a_run_that_keeps_no_client_weights_keeps_nothing_of_their_start(tmp_path: Path) -> None:
    start = {"w": np.ones(3, np.float32)}
    client = ClientRecord("0", 5, start, received={"w": np.zeros(3, np.float32)})
    run = run_of(
        tmp_path, RoundRecord(0, start), RoundRecord(1, start, (client,)), storage=Storage("none")
    )
    with pytest.raises(RunError, match=r"keeps no client weights"):
        run.start_of(1, "0")
    assert run.record(1).clients[0].received == {}
