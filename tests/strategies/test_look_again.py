"""A run of one's own program, looked at again from Python with model and probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg
from observing_helpers import N, run
from test_private import PROBE, SETTINGS, secure
from torch import nn
from toy_federation import build_net

import fedcircuit
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.clients.circuits import ClientCircuits
from fedcircuit.observers.inertia import InertiaObserver
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.runs.run import Run
from fedcircuit.strategies.observing import observe

FAST = CircuitSettings(controls=1)
SAMPLES = (PROBE.inputs, PROBE.labels)


def observed(path: Path, **options: Any) -> Run:
    strategy = observe(
        flower.FedAdam(), model=build_net(), probe=SAMPLES, run_dir=path, circuits=FAST, **options
    )
    run(strategy, rounds=2)
    return Run.load(path)


def circuits_of(run: Run, number: int) -> tuple[Any, dict[str, bytes]]:
    line = json.loads((run.path / "rounds.jsonl").read_bytes().splitlines()[number])
    tables = line["observations"]["circuits"]
    tables.pop("seconds", None)
    return tables, {k: v.tobytes() for k, v in run.observed(number, "circuits").items()}


def test_the_same_model_probe_and_settings_see_what_was_recorded(tmp_path: Path) -> None:
    recorded = observed(tmp_path / "run", observers=[InertiaObserver(snapshot_round=1)])

    again = fedcircuit.look(
        tmp_path / "run", model=build_net(), probe=SAMPLES, circuits=FAST,
        observers=[InertiaObserver(snapshot_round=1)],
    )  # fmt: skip

    assert again.rounds == (1, 2)
    assert len(again.clients_of(2)) == N
    for number in again.rounds:
        assert circuits_of(again, number) == circuits_of(recorded, number)
    for table in ("accuracy", "inertia", "inertia_index"):
        assert again.table(table).equals(recorded.table(table))


def test_other_settings_or_another_probe_make_another_look(tmp_path: Path) -> None:
    recorded = observed(tmp_path / "run")
    known: dict[str, Any] = {"model": build_net(), "probe": SAMPLES}
    gates = CircuitSettings(method="magnitude", controls=1)

    first = fedcircuit.look(recorded, name="magnitude", circuits=gates, rounds=(1,), **known)
    fewer = (PROBE.inputs[:-3], PROBE.labels[:-3])

    assert first.settings["circuits.method"] == "magnitude"
    assert set(first.table("verdicts")["round"]) == {1}
    assert fedcircuit.look(recorded, circuits=gates, rounds=(1,), **known).path == first.path
    with pytest.raises(RunError, match="give this one another name"):
        fedcircuit.look(
            recorded, name="magnitude", circuits=gates, rounds=(1,), model=build_net(), probe=fewer
        )


def test_a_model_or_probe_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    recorded = observed(tmp_path / "run")
    larger = nn.Sequential(build_net(), nn.Linear(3, 3))

    with pytest.raises(ValueError, match="does not fit the weights"):
        fedcircuit.look(recorded, model=larger, probe=SAMPLES)
    with pytest.raises(ValueError, match="overrides are for runs of 'fedcircuit run'"):
        fedcircuit.look(recorded, ["circuits.method=gates"], model=build_net(), probe=SAMPLES)
    with pytest.raises(RunError, match="by a program of its own"):
        fedcircuit.look(recorded)
    with pytest.raises(ValueError, match="circuits need labelled samples"):
        fedcircuit.look(recorded, model=build_net())
    assert recorded.looks == ()


@pytest.mark.parametrize("own", [None, ClientCircuits(SETTINGS)])
def test_under_secure_aggregation_a_look_sees_as_much_as_the_run_did(
    tmp_path: Path, own: ClientCircuits | None
) -> None:
    recorded, _ = secure(tmp_path / "run", own=own)

    again = fedcircuit.look(recorded, model=build_net(), probe=SAMPLES, circuits=SETTINGS)

    for number in recorded.rounds:
        assert circuits_of(again, number) == circuits_of(recorded, number)
    assert "secure aggregation" in " ".join(again.table("unavailable")["reason"])
    assert again.observer_errors.empty


def test_a_look_without_the_model_says_what_to_give(tmp_path: Path) -> None:
    strategy = observe(FedAvg(), run_dir=tmp_path / "run")
    strategy.fedcircuit_hooks.recorder.store.close()
    with pytest.raises(RunError, match=r"look\(RUN, model=\.\.\., probe=\.\.\.\)"):
        fedcircuit.look(tmp_path / "run")
