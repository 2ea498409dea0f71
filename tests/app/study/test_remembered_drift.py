"""SCAFFOLD, FedDyn and path importance survive a stop: what clients remember is in the record."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from flwr.serverapp.strategy import FedAvg
from toy_federation import (
    N_CLASSES,
    SortedGrid,
    arrays_of,
    bits,
    build_net,
    data_of,
    initial_weights,
    weights_of,
)

from fedcircuit.aggregation.drift import FedDyn, Scaffold
from fedcircuit.app.config import ConfigError, parse_study
from fedcircuit.app.study import kept_by_clients, resume_run, run_study
from fedcircuit.clients import client_app
from fedcircuit.learning.training import LocalTraining
from fedcircuit.records.runs import Run
from fedcircuit.strategies import Mended, observe

OPTIONS: dict[str, dict[str, Any]] = {
    "scaffold": {"scaffold": True},
    "feddyn": {"feddyn_alpha": 0.05},
    "path importance": {"path_importance": True},
}


def study(**training: Any) -> dict[str, Any]:
    return {
        "data": {"train_limit": 240, "test_limit": 60},
        "partition": {"kind": "classes", "classes": [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]},
        "model": {"name": "mlp", "widths": [8]},
        "training": {"rounds": 4, "batch_size": 20, "lr": 0.1, **training},
        "strategy": {"fraction_train": 0.7},  # two of three clients in a round
        "circuits": {"enabled": False},
        "inertia": {"enabled": False},
    }


def said(run: Run, number: int) -> list[dict[str, object]]:
    return [dict(client.extra) for client in run.record(number).clients]


@pytest.mark.parametrize(
    ("name", "updates"),
    [*((name, "full") for name in OPTIONS), ("scaffold", "none"), ("path importance", "none")],
)
def test_a_resumed_study_equals_one_that_never_stopped(
    name: str, updates: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = {**study(**OPTIONS[name]), "storage": {"updates": updates}}
    whole = Run.load(run_study(parse_study(raw), tmp_path / "whole"))
    stopped = run_study(parse_study(raw, ["training.rounds=2"]), tmp_path / "stopped")
    with caplog.at_level(logging.WARNING, logger="fedcircuit"):
        resumed = Run.load(resume_run(stopped, rounds=4))
    assert "forget" not in caplog.text
    for number in (3, 4):
        assert bits(resumed.weights(number)) == bits(whole.weights(number))
        assert said(resumed, number) == said(whole, number)


def test_without_client_weights_feddyn_s_loss_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = {**study(**OPTIONS["feddyn"]), "storage": {"updates": "none"}}
    stopped = run_study(parse_study(raw, ["training.rounds=1"]), tmp_path / "stopped")
    with caplog.at_level(logging.WARNING, logger="fedcircuit"):
        resume_run(stopped, rounds=2)
    assert "clients forget their gradients of FedDyn when a run stops" in caplog.text


@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_a_program_of_one_s_own_with_the_rule_goes_on_bit_for_bit(
    name: str, tmp_path: Path
) -> None:
    options = LocalTraining(batch_size=8, lr=0.1, **OPTIONS[name])

    def went_on(folder: Path, rounds: int) -> dict[str, tuple[str, bytes]]:
        done = len(Run.load(folder).rounds) if folder.exists() else 0
        app = client_app(
            build_net, data_of, options, n_classes=N_CLASSES,
            remembered=kept_by_clients(folder, done) if done else None,
        )  # fmt: skip
        rule = Scaffold() if name == "scaffold" else FedDyn(alpha=0.05)
        strategy = observe(Mended(FedAvg(), [rule], strict=True), run_dir=folder, resume=True)
        start = arrays_of(initial_weights())
        return bits(weights_of(strategy.start(SortedGrid(app, 3), start, num_rounds=rounds).arrays))

    whole = went_on(tmp_path / "whole", 4)
    went_on(tmp_path / "parts", 1)
    went_on(tmp_path / "parts", 3)
    assert went_on(tmp_path / "parts", 4) == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scaffold": True, "optimizer": "adam"}, "use optimizer sgd"),
        ({"scaffold": True, "feddyn_alpha": 0.1}, "both correct the same drift"),
        ({"feddyn_alpha": 0.1, "proximal_mu": 0.1}, "leave one of them out"),
        ({"feddyn_alpha": 0.1, "batch_norm": "own"}, "use batch_norm shared"),
        ({"feddyn_alpha": -1}, "training.feddyn_alpha"),
        ({"fishers": True}, "fisher"),
    ],
)
def test_studies_that_contradict_themselves_are_refused(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_study({"training": options})
