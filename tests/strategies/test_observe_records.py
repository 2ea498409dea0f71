"""What an observed strategy leaves behind."""

from __future__ import annotations

from pathlib import Path

from flwr.app import ArrayRecord
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg
from observing_helpers import last_record, recorder_of, run
from toy_federation import (
    Witness,
    bits,
    initial_weights,
    toy_app,
)

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions


def test_records_hold_the_initial_dtypes_whatever_the_strategy_returns(tmp_path: Path) -> None:
    strategy = observe(flower.FedAdam(), run_dir=tmp_path / "run")
    result = run(strategy)
    record = last_record(strategy)
    assert {array.dtype for array in result.arrays.values()} == {"float64"}
    assert {n: w.dtype for n, w in record.weights.items()} == {
        n: w.dtype for n, w in initial_weights().items()
    }


def test_round_zero_holds_the_initial_weights(tmp_path: Path) -> None:
    strategy = observe(FedAvg(), run_dir=tmp_path / "run")
    run(strategy, rounds=1)
    start = recorder_of(strategy).store.read(0)
    assert bits(start.weights) == bits(initial_weights())
    assert start.clients == ()


def test_a_rounds_seconds_are_told_by_stage(tmp_path: Path) -> None:
    strategy = observe(FedAvg(), run_dir=tmp_path / "run", observers=[Witness()])
    run(strategy, rounds=1)
    seconds = last_record(strategy).seconds
    assert set(seconds) == {"train", "record", "aggregate", "observe:witness"}
    assert all(value >= 0 for value in seconds.values())


def test_the_clients_evaluation_is_kept_beside_the_round(tmp_path: Path) -> None:
    strategy = observe(FedAvg(), run_dir=tmp_path / "run", options=RecorderOptions(strict=True))
    result = run(strategy, rounds=2)
    from fedcircuit.records.runs.run import Run

    kept = Run.load(tmp_path / "run").evaluations
    expected = {r: dict(m) for r, m in result.evaluate_metrics_clientapp.items()}
    columns = sorted(expected[1])
    assert kept["round"].tolist() == [1, 2]
    for number, row in zip((1, 2), kept[columns].to_dict("records"), strict=True):
        assert row == expected[number]


def test_progress_is_told_with_every_recorded_round(tmp_path: Path) -> None:
    told: list[int] = []
    options = RecorderOptions(on_round=lambda record: told.append(record.round), strict=True)
    run(observe(FedAvg(), run_dir=tmp_path / "run", options=options), rounds=2)
    assert told == [0, 1, 2]


def test_numbered_weights_are_recorded_under_their_names(tmp_path: Path) -> None:
    names = list(initial_weights())
    strategy = observe(
        FedAvg(),
        run_dir=tmp_path / "run",
        param_names=names,
        options=RecorderOptions(strict=True),
    )
    arrays = ArrayRecord(list(initial_weights().values()))
    result = strategy.start(InProcessGrid(toy_app(), 2), arrays, num_rounds=1)
    assert list(result.arrays) == [str(index) for index in range(9)]
    record = last_record(strategy)
    assert list(record.weights) == list(record.clients[0].weights) == names
