"""FedAvg with circuits: what it does beyond being observed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from flwr.serverapp.strategy import FedAvg
from observing_helpers import app_of, last_record, recorder_of
from toy_federation import (
    N_CLASSES,
    SortedGrid,
    arrays_of,
    build_net,
    initial_weights,
    samples_of,
    toy_app,
    weights_of,
)

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.rounds.round_record import RoundRecord
from fedcircuit.strategies.circuit_fedavg import CircuitFedAvg
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.replies.failures import AllClientsFailedError

STRICT = RecorderOptions(strict=True)


def test_it_averages_like_fedavg_and_gives_integers_back_as_integers() -> None:
    bare = FedAvg().start(SortedGrid(toy_app(), 4), arrays_of(initial_weights()), num_rounds=1)
    ours = CircuitFedAvg(options=STRICT).start(
        InProcessGrid(toy_app(), 4), arrays_of(initial_weights()), num_rounds=1
    )
    expected, found = weights_of(bare.arrays), weights_of(ours.arrays)
    assert expected["1.num_batches_tracked"].dtype == np.float64
    for name, values in initial_weights().items():
        assert found[name].dtype == values.dtype
        assert np.array_equal(
            found[name], np.rint(expected[name]) if values.ndim == 0 else expected[name]
        )


def test_all_clients_failing_is_an_error_unless_switched_off() -> None:
    def train(message: Message, context: Context) -> Message:
        raise ValueError("bug")

    arrays = arrays_of(initial_weights())
    with pytest.raises(AllClientsFailedError, match="ValueError: bug"):
        CircuitFedAvg().start(InProcessGrid(app_of(train), 2), arrays, num_rounds=1)
    lenient = CircuitFedAvg(options=RecorderOptions(fail_when_all_fail=False))
    lenient.start(InProcessGrid(app_of(train), 2), arrays, num_rounds=1)


def circuits_of(record: RoundRecord) -> set[str]:
    return set(record.observations)


def test_one_line_finds_circuits_and_measures_accuracy(tmp_path: Path) -> None:
    samples = samples_of(9, 60)
    strategy = CircuitFedAvg(
        model=build_net(),
        probe=(samples.inputs.numpy(), samples.labels.numpy()),
        run_dir=tmp_path / "run",
        circuits=CircuitSettings(controls=3),
        options=STRICT,
    )
    strategy.start(InProcessGrid(toy_app(), 2), arrays_of(initial_weights()), num_rounds=1)
    record = last_record(strategy)
    assert circuits_of(record) == {"circuits", "evaluation"}
    assert {row[0] for row in record.observations["circuits"].tables["validity"].rows} == {
        "global",
        "0",
        "1",
    }
    accuracy = record.observations["evaluation"].tables["accuracy"].rows[0]
    assert accuracy[4] == len(samples)
    store = recorder_of(strategy).store
    assert store is not None
    assert store.manifest["name"] == "CircuitFedAvg"
    assert store.manifest["class_names"] == [str(index) for index in range(N_CLASSES)]


def test_a_partial_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="circuits need"):
        CircuitFedAvg(model=build_net())
    store = recorder_of(CircuitFedAvg(run_dir=tmp_path / "a")).store
    empty = torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="run_dir or store"):
        CircuitFedAvg(run_dir=tmp_path / "b", store=store)
    with pytest.raises(RunError, match="exists already"):
        observe(FedAvg(), run_dir=tmp_path / "a")
    with pytest.raises(ValueError, match="no samples"):
        CircuitFedAvg(model=build_net(), probe=empty)


def test_it_cannot_be_observed_again() -> None:
    with pytest.raises(ValueError, match="observed already"):
        observe(CircuitFedAvg())
