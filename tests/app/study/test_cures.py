"""Cures on the client in whole studies, on digits: each changes the run, and runs go on alike."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.study.federation import resume_run, run_study
from fedcircuit.app.study.memory import kept_by_clients
from fedcircuit.app.study.parts import build_study, local_training
from fedcircuit.learning.training.evaluation import evaluate
from fedcircuit.learning.training.objectives import FedLC, LogitAdjustment
from fedcircuit.learning.weights import set_weights
from fedcircuit.records.runs.run import Run


def study(model: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    return {
        "name": "cures",
        "data": {"train_limit": 600, "test_limit": 300},
        "partition": {"kind": "classes", "classes": [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]},
        "model": model or {"name": "mlp", "widths": [16]},
        "training": {"rounds": 3, "epochs": 2, "batch_size": 20, "lr": 0.1, **training},
        "circuits": {"enabled": False, "probe_per_class": 6},
        "inertia": {"enabled": False},
    }


NORMED = {"name": "resnet", "widths": [4, 4]}
CURES: dict[str, dict[str, Any]] = {
    "fedlc": {"objective": {"name": "fedlc", "tau": 0.5}},
    "logit adjustment": {"objective": {"name": "logit-adjustment"}},
    "fedrs": {"fedrs": {"alpha": 0.3}},
    "feddecorr": {"feddecorr_beta": 0.1},
    "simplex": {"model": {"name": "mlp", "widths": [16], "head": "simplex"}},
    "orthogonal": {"model": {"name": "mlp", "widths": [16], "head": "orthogonal"}},
    "fedbn": {"model": NORMED, "batch_norm": "own"},
}


def run_of(path: Path, raw: dict[str, Any]) -> Run:
    return Run.load(run_study(parse_study(raw), path))


def bits(run: Run, number: int) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in run.weights(number).items()}


@pytest.mark.parametrize("name", CURES)
def test_a_study_with_a_cure_runs_and_differs_from_the_study_without(
    tmp_path: Path, name: str
) -> None:
    plain = study(NORMED) if name == "fedbn" else study()
    raw = study(**CURES[name])
    cured, without = run_of(tmp_path / "cured", raw), run_of(tmp_path / "without", plain)
    assert cured.rounds == (1, 2, 3)
    assert len(cured.failures) == 0
    assert bits(cured, 3) != bits(without, 3)
    assert all(np.isfinite(values).all() for values in cured.weights(3).values())
    if name != "fedbn":  # whose average is nobody's model
        built = build_study(parse_study(raw))
        model = built.model()
        set_weights(model, cured.weights(3))
        assert evaluate(model, built.test, n_classes=10).accuracy > 0.2  # chance is 0.1


@pytest.mark.parametrize("name", ["fedlc", "feddecorr", "simplex", "fedbn"])
def test_a_resumed_study_with_a_cure_equals_one_that_never_stopped(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw = study(**CURES[name])
    whole = run_of(tmp_path / "whole", raw)
    stopped = run_study(parse_study(raw, ["training.rounds=2"]), tmp_path / "stopped")
    with caplog.at_level(logging.WARNING, logger="fedcircuit"):
        resumed = Run.load(resume_run(stopped, rounds=3))
    assert bits(whole, 3) == bits(resumed, 3)
    assert "forget" not in caplog.text


def test_clients_that_did_not_take_part_lately_get_back_what_they_kept_before(
    tmp_path: Path,
) -> None:
    raw = study(**CURES["fedbn"], rounds=5)
    raw["strategy"] = {"fraction_train": 0.5}  # one of three clients in a round
    whole = run_of(tmp_path / "whole", raw)
    stopped = run_study(parse_study(raw, ["training.rounds=3"]), tmp_path / "stopped")
    kept = kept_by_clients(stopped, 3)
    last = {client: n for n in (1, 2, 3) for client in whole.clients_of(n)}
    assert sorted(kept) == sorted(int(client) for client in last)
    for client, number in last.items():
        sent = whole.client_weights(number, client)
        assert list(kept[int(client)]) == ["training/own"]
        for name, values in kept[int(client)]["training/own"].items():
            assert values.tobytes() == sent[name].tobytes()
    resumed = Run.load(resume_run(stopped, rounds=5))
    assert bits(whole, 5) == bits(resumed, 5)


def test_own_tensors_of_lips_survive_a_stop_too(tmp_path: Path) -> None:
    raw = study()
    raw["strategy"] = {"lips": {"d0": 1.0, "sync_bn": False}}
    whole = run_of(tmp_path / "whole", raw)
    stopped = run_study(parse_study(raw, ["training.rounds=2"]), tmp_path / "stopped")
    resumed = Run.load(resume_run(stopped, rounds=3))
    assert bits(whole, 3) == bits(resumed, 3)


def test_without_client_weights_in_the_run_a_resumed_one_says_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = study(**CURES["fedbn"])
    raw["storage"] = {"updates": "none"}
    stopped = run_study(parse_study(raw, ["training.rounds=1"]), tmp_path / "run")
    with caplog.at_level(logging.WARNING, logger="fedcircuit"):
        resume_run(stopped, rounds=2)
    assert "clients forget their own batch norm when a run stops" in caplog.text


def test_the_study_says_which_objective() -> None:
    def objective(name: str) -> object:
        raw = study(objective={"name": name, "tau": 0.25})
        return local_training(parse_study(raw)).objective

    assert objective("fedlc") == FedLC(0.25)
    assert objective("logit-adjustment") == LogitAdjustment(0.25)
    assert local_training(parse_study(study())).objective is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (study(objective={"tau": 1}, fedrs={"alpha": 0.5}), "a client has one objective"),
        (study(objective={"name": "focal"}), "training.objective.name"),
        (study(objective={"tau": -1}), "training.objective.tau"),
        (study({"name": "mlp", "head": "round"}), "model.head"),
    ],
)
def test_studies_that_contradict_themselves_are_refused(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_study(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (study(batch_norm="own"), r"batch_norm 'own' \(FedBN\) needs a model with batch norm, mlp"),
        (study({"name": "mlp", "widths": [6], "head": "simplex"}), "10 classes and 6 features"),
    ],
)
def test_models_that_do_not_fit_are_refused_before_anything_is_written(
    raw: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        run_study(parse_study(raw), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_server_and_clients_build_the_same_frozen_head() -> None:
    built = build_study(parse_study(study(**CURES["simplex"])))
    first, second = built.model(), built.model()
    assert (first[-1].weight == second[-1].weight).all()  # type: ignore[index]
