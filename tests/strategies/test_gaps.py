"""What cannot be recorded costs neither the run nor the other rounds, and is named."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAdam, FedAvg
from observing_helpers import outcome, recorder_of, run
from toy_federation import bits

from fedcircuit import CircuitFedAvg, RecorderOptions, Run, observe
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.rounds.round_record import Observation, RoundView, Table
from fedcircuit.records.runs.verification import verify_run
from fedcircuit.report.page.page import write_report


@dataclass
class Doing:
    """An observer that does something in every round."""

    act: Callable[[RoundView], Any]
    name: str = "mine"

    def __call__(self, view: RoundView) -> Any:
        return self.act(view)


def breaking_disk(path: Path) -> Doing:
    """Takes the folder of the arrays away in round 2 and gives it back in round 3."""
    here, away = path / "rounds", path / "away"

    def act(view: RoundView) -> Observation:
        if view.round == 2:
            here.rename(away)
        if view.round == 3:
            away.rename(here)
        return Observation()

    return Doing(act)


def test_a_round_that_was_not_recorded_becomes_a_gap_and_the_later_ones_are_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run"
    bare = outcome(run(FedAdam()))
    strategy = observe(FedAdam(), run_dir=path, observers=[breaking_disk(path)])

    assert outcome(run(strategy)) == bare

    recorded = Run.load(path)
    assert recorded.rounds == (1, 2, 3)
    assert [recorded.clients_of(number) for number in (1, 2, 3)] == [
        ("0", "1", "2", "3", "4"), (), ("0", "1", "2", "3", "4"),
    ]  # fmt: skip
    ((number, client, kind, reason),) = recorded.failures.itertuples(index=False)
    assert (number, client, kind) == (2, "global", "record")
    assert "the round could not be recorded at its time: RunError" in reason
    undisturbed = tmp_path / "undisturbed"
    run(observe(FedAdam(), run_dir=undisturbed))
    for number in (2, 3):
        assert bits(recorded.weights(number)) == bits(Run.load(undisturbed).weights(number))
    assert verify_run(path) == ()
    assert write_report(recorded).stat().st_size > 10_000
    errors = recorder_of(strategy).errors
    assert errors[0].startswith("round 2: RunError")
    assert [error.partition(":")[0] for error in errors[1:]] == ["the evaluation of round 2"]


def test_circuit_fedavg_stops_where_the_disk_refuses(tmp_path: Path) -> None:
    path = tmp_path / "run"
    strategy = CircuitFedAvg(run_dir=path, observers=[breaking_disk(path)])

    with pytest.raises(RunError, match="round 2 was not recorded"):
        run(strategy)

    (path / "away").rename(path / "rounds")
    assert Run.load(path).rounds == (1,)


UNUSABLE = {
    "returns nothing": (lambda view: None, "it returned NoneType, expected an Observation"),
    "raises": (lambda view: 1 / 0, "ZeroDivisionError"),
    "wants to exit": (lambda view: exit(5), "it wanted to end the process"),
    "writes into what it sees": (
        lambda view: next(iter(view.after.values())).fill(0), "read-only",
    ),
    "sees an object": (
        lambda view: Observation({"t": Table(("a",), ((object(),),))}), "cannot be recorded",
    ),
    "sees arrays of objects": (
        lambda view: Observation({}, {"a": np.array(["x"], dtype=object)}), "cannot be recorded",
    ),
    "names two columns alike": (
        lambda view: Observation({"t": Table(("a", "a"), ((1, 2),))}), "must have different names",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", [CircuitFedAvg, lambda **o: observe(FedAvg(), **o)])
@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_observer_is_an_error_of_its_own(
    name: str, make: Callable[..., Any], tmp_path: Path
) -> None:
    act, words = UNUSABLE[name]
    good = Doing(lambda view: Observation({"seen": Table(("r",), ((view.round,),))}), "good")

    run(make(run_dir=tmp_path / "run", observers=[Doing(act), good]))

    recorded = Run.load(tmp_path / "run")
    assert recorded.rounds == (1, 2, 3)
    assert recorded.failures.empty
    errors = recorded.observer_errors
    assert errors[["round", "observer"]].values.tolist() == [[n, "mine"] for n in (1, 2, 3)]
    assert all(words in error for error in errors["error"])
    assert recorded.table("seen")["r"].tolist() == [1, 2, 3]
    assert all(len(recorded.clients_of(number)) == 5 for number in recorded.rounds)


def test_an_observer_that_takes_too_long_is_left_to_itself(tmp_path: Path) -> None:
    release: list[bool] = []

    def slow(view: RoundView) -> Observation:
        while view.round == 1 and not release:
            time.sleep(0.01)
        return Observation({"seen": Table(("r",), ((view.round,),))})

    def let_go(view: RoundView) -> Observation:
        if view.round == 2:
            release.append(True)
            time.sleep(0.2)
        return Observation()

    observers = [Doing(slow), Doing(let_go, "after")]
    options = RecorderOptions(observer_seconds=2.0)
    run(observe(FedAvg(), run_dir=tmp_path / "run", observers=observers, options=options))

    errors = Run.load(tmp_path / "run").observer_errors["error"].tolist()
    assert len(errors) == 2
    assert "took more than observer_seconds = 2" in errors[0]
    assert "still at work on round 1" in errors[1]
    assert Run.load(tmp_path / "run").table("seen")["r"].tolist() == [3]


@pytest.mark.parametrize("make", [CircuitFedAvg, lambda **o: observe(FedAvg(), **o)])
def test_progress_that_raises_never_ends_a_run(make: Callable[..., Any], tmp_path: Path) -> None:
    def boom(record: object) -> None:
        raise KeyError("boom")

    strategy = make(run_dir=tmp_path / "run", options=RecorderOptions(on_round=boom))
    run(strategy)

    assert Run.load(tmp_path / "run").rounds == (1, 2, 3)
    assert recorder_of(strategy).errors[-1] == "on_round in round 3: KeyError: 'boom'"


def test_two_observers_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a name of its own, got \['mine'\] twice"):
        observe(FedAvg(), observers=[Doing(print), Doing(print)])
