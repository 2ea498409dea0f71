"""A strategy that is started twice, pickled or copied."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flwr.server.strategy as legacy
import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, Strategy
from observing_helpers import N, outcome, run
from toy_federation import SortedGrid, arrays_of, bits, initial_weights, toy_app, weights_of

from fedcircuit.records.runs.run import Run
from fedcircuit.strategies.circuit_fedavg import CircuitFedAvg
from fedcircuit.strategies.lips import LIPS
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.preflight.checks import PreflightError
from fedcircuit.strategies.recording.recorded_weights import in_dtype


def started(strategy: Strategy, arrays: ArrayRecord, rounds: int) -> ArrayRecord:
    return strategy.start(SortedGrid(toy_app(), N), arrays, num_rounds=rounds).arrays


@pytest.mark.parametrize("make", [FedAvg, FedAdam])
def test_a_second_start_goes_on_with_the_run(tmp_path: Path, make: Callable[[], Strategy]) -> None:
    first = started(bare := make(), arrays_of(initial_weights()), 2)
    end = started(bare, first, 1)

    strategy = observe(make(), run_dir=tmp_path / "run")
    middle = started(strategy, arrays_of(initial_weights()), 2)
    seen = started(strategy, middle, 1)

    assert bits(weights_of(seen)) == bits(weights_of(end))
    recorded = Run.load(tmp_path / "run")
    assert recorded.rounds == (1, 2, 3)
    assert recorded.evaluations["round"].tolist() == [1, 2, 3]
    for name, values in recorded.weights(2).items():
        np.testing.assert_array_equal(values, in_dtype(middle[name].numpy(), values.dtype))


def test_a_strategy_whose_folder_another_has_taken_is_refused_before_clients_train(
    tmp_path: Path,
) -> None:
    first = observe(FedAvg(), run_dir=tmp_path / "run")
    second = observe(FedAvg(), run_dir=tmp_path / "run", resume=True)
    started(second, arrays_of(initial_weights()), 1)
    grid = SortedGrid(toy_app(), N)
    with pytest.raises(PreflightError, match=r"holds 2 rounds, and held 0 .* resume=True"):
        first.start(grid, arrays_of(initial_weights()), num_rounds=1)
    assert Run.load(tmp_path / "run").rounds == (1,)


def test_weights_that_went_through_a_model_go_on_too(tmp_path: Path) -> None:
    """FedAvg gives counters of batch norm back as fractions, which a model cuts off."""
    strategy = observe(FedAvg(), run_dir=tmp_path / "run")
    middle = weights_of(started(strategy, arrays_of(initial_weights()), 1))
    loaded = {n: v.astype(initial_weights()[n].dtype) for n, v in middle.items()}
    started(strategy, arrays_of(loaded), 1)
    assert Run.load(tmp_path / "run").rounds == (1, 2)


def test_a_second_start_from_other_weights_is_refused_before_clients_train(tmp_path: Path) -> None:
    strategy = observe(FedAvg(), run_dir=tmp_path / "run")
    started(strategy, arrays_of(initial_weights()), 1)
    with pytest.raises(PreflightError, match="started again, from other weights .* round 1 in"):
        started(strategy, arrays_of(initial_weights()), 1)
    assert Run.load(tmp_path / "run").rounds == (1,)


def test_without_a_folder_a_second_start_may_be_another_experiment() -> None:
    strategy = observe(FedAvg())
    first = outcome(run(strategy, rounds=1))
    assert outcome(run(strategy, rounds=1)) == first


def test_a_start_that_failed_in_its_first_round_may_be_tried_again(tmp_path: Path) -> None:
    class Failing(FedAvg):
        calls = 0

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError
            return super().aggregate_train(server_round, replies)

    strategy = observe(Failing(), run_dir=tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        started(strategy, arrays_of(initial_weights()), 2)
    started(strategy, arrays_of(initial_weights()), 2)
    assert Run.load(tmp_path / "run").rounds == (1, 2)
    assert len(Run.load(tmp_path / "run").evidence) == 1


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda strategy: pickle.loads(pickle.dumps(strategy)),
    "pickle 1": lambda strategy: pickle.loads(pickle.dumps(strategy, protocol=1)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("make", [FedAvg, FedAdam, legacy.FedAvg, legacy.FedAdagrad])
def test_a_copy_is_the_strategy_alone(
    how: str, make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"initial_parameters": None} if make is legacy.FedAvg else {}
    if make is legacy.FedAdagrad:
        from flwr.common import ndarrays_to_parameters

        options = {"initial_parameters": ndarrays_to_parameters([np.zeros(2)])}
    strategy = observe(make(**options), run_dir=tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        made = COPIES[how](strategy)
    assert type(made) is make
    assert made.__dict__.keys() == strategy.__dict__.keys()
    assert "it records nothing" in caplog.text
    assert type(strategy).fedcircuit_observed  # the original is as it was


def test_a_copy_keeps_the_moments_and_can_be_observed(tmp_path: Path) -> None:
    strategy = observe(FedAdam(), run_dir=tmp_path / "run")
    middle = started(strategy, arrays_of(initial_weights()), 2)
    made = observe(pickle.loads(pickle.dumps(strategy)), run_dir=tmp_path / "copy")
    ends = [bits(weights_of(started(one, middle, 1))) for one in (strategy, made)]
    assert ends[0] == ends[1]
    assert Run.load(tmp_path / "run").rounds == (1, 2, 3)
    assert Run.load(tmp_path / "copy").rounds == (1,)


@pytest.mark.parametrize("make", [CircuitFedAvg, lambda **o: observe(FedAvg(), **o)])
def test_a_resumed_strategy_is_copied_too(tmp_path: Path, make: Callable[..., Any]) -> None:
    started(make(run_dir=tmp_path / "run"), arrays_of(initial_weights()), 1)
    resumed = make(run_dir=tmp_path / "run", resume=True)
    made = pickle.loads(pickle.dumps(resumed))
    assert type(made) in (CircuitFedAvg, FedAvg)
    assert type(made).__name__ in type(resumed).__name__
    resumed.fedcircuit_hooks.recorder.store.close()


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_ours_behaves_as_it_does_and_records_nothing(how: str, tmp_path: Path) -> None:
    strategy = CircuitFedAvg(run_dir=tmp_path / "run")
    made = COPIES[how](strategy)
    assert type(made) is CircuitFedAvg
    assert outcome(run(made, rounds=1)) == outcome(run(strategy, rounds=1))
    assert made.fedcircuit_hooks.recorder.store is None
    assert Run.load(tmp_path / "run").rounds == (1,)


def test_a_wrapper_around_an_observed_strategy_is_copied_too(tmp_path: Path) -> None:
    strategy = LIPS(observe(FedAvg(), run_dir=tmp_path / "run"), n_rounds=2)
    made = pickle.loads(pickle.dumps(strategy))
    assert type(made) is LIPS
    assert type(made.strategy) is FedAvg
