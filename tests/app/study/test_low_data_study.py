"""Studies with few images a client, personal tests and masked downloads, on digits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.study.data import personal_tests_of
from fedcircuit.app.study.federation import resume_run, run_study
from fedcircuit.app.study.parts import build_study
from fedcircuit.learning.training.evaluation import evaluate
from fedcircuit.learning.weights import set_weights
from fedcircuit.records.runs.run import Run


def study(lips: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "name": "low-data",
        "data": {"test_limit": 250, "pool": 2},
        "partition": {
            "kind": "low-data", "clients": 4, "samples": 40, "alpha": 0.5, "personal_test": 25,
        },
        "model": {"name": "mlp", "widths": [12, 10, 8], "init": "he"},
        "training": {"rounds": 4, "epochs": 2, "batch_size": 20, "lr": 0.1, "momentum": 0.9},
        "circuits": {"enabled": False, "probe_per_class": 6},
        "inertia": {"snapshot": 1},
        "strategy": {"lips": lips},
        **changes,
    }  # fmt: skip


def run_of(path: Path, raw: dict[str, Any]) -> Run:
    return Run.load(run_study(parse_study(raw), path))


def bits(run: Run, number: int) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in run.weights(number).items()}


def test_clients_hold_few_pooled_images_and_are_tested_on_their_own_mix(tmp_path: Path) -> None:
    raw = study()
    run, built = run_of(tmp_path / "run", raw), build_study(parse_study(raw))
    assert run.partition is not None
    counts = np.array(run.partition["counts"])
    assert counts.sum(axis=1).tolist() == [40] * 4
    assert run.weights(0)["1.weight"].shape == (12, 16)  # 8x8 pooled to 4x4

    # independently: every client's own model, and the average, on that client's test images
    assert built.personal is not None
    test, indices = personal_tests_of(built.personal)
    last = run.clients[run.clients["round"] == 4].set_index("client")["test_accuracy"]
    model, after = built.model(), []
    for client, index in enumerate(indices):
        own = test.take(torch.from_numpy(index))
        held = {int(label) for label in np.flatnonzero(counts[client])}
        assert set(own.labels.tolist()) <= held
        set_weights(model, run.client_weights(4, str(client)))
        before = evaluate(model, own, n_classes=10).accuracy
        assert last[str(client)] == pytest.approx(before)
        set_weights(model, run.weights(4))
        after.append(evaluate(model, own, n_classes=10).accuracy * len(own))
    weighted = sum(after) / sum(len(index) for index in indices)
    evaluated = run.evaluations.set_index("round")["accuracy"]
    assert evaluated.loc[4] == pytest.approx(weighted)
    assert 0 < weighted < 1


def test_a_run_without_personal_tests_evaluates_no_clients(tmp_path: Path) -> None:
    raw = study()
    del raw["partition"]["personal_test"]
    run = run_of(tmp_path / "run", raw)
    assert "test_accuracy" not in run.clients
    assert len(run.evaluations) == 0


def test_lips_that_masks_nothing_is_the_study_without_it(tmp_path: Path) -> None:
    plain = run_of(tmp_path / "plain", study())
    off = run_of(tmp_path / "off", study({"d0": 1.0}))
    on = run_of(tmp_path / "on", study({"d0": 0.5}))
    for number in range(5):
        assert bits(plain, number) == bits(off, number)
    assert bits(plain, 1) == bits(on, 1)
    assert bits(plain, 2) != bits(on, 2)
    start = on.start_of(2, "3")
    assert [np.count_nonzero(start[name]) / start[name].size for name in
            ("1.weight", "3.weight", "5.weight", "7.weight")] == [1.0, 0.5, 0.5, 1.0]  # fmt: skip


@pytest.mark.parametrize("lips", [{"period": 2}, {"period": 2, "reset": "init", "score": "random"}])
def test_a_resumed_run_with_lips_equals_one_that_never_stopped(
    tmp_path: Path, lips: dict[str, Any]
) -> None:
    whole = run_of(tmp_path / "whole", study(lips))
    raw = study(lips)
    config = parse_study(raw)
    stopped = tmp_path / "stopped"

    def stop(record: Any) -> None:
        if record.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(config, stopped, on_round=stop)
    resumed = Run.load(resume_run(stopped))
    assert resumed.rounds == (1, 2, 3, 4)
    for number in (3, 4):
        assert bits(whole, number) == bits(resumed, number)
    for name in ("inertia", "inertia_index"):
        assert whole.table(name).equals(resumed.table(name))


def test_a_resumed_run_says_what_its_clients_forgot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = study({"score": "sensitivity"})
    raw["training"]["rounds"] = 1
    path = run_study(parse_study(raw), tmp_path / "run")
    with caplog.at_level(logging.WARNING, logger="fedcircuit"):
        resume_run(path, rounds=2)
    assert "clients forget their last gradients" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": {"lips": {"score": "sensitivity", "side": "server"}}}, "clients' gradients"),
        ({"strategy": {"lips": {"d0": 0}}}, "d0"),
        (
            {
                "strategy": {"lips": {"personalised_eval": True}},
                "partition": {"kind": "iid", "clients": 2},
            },
            "needs partition.personal_test",
        ),
        ({"partition": {"kind": "low-data", "clients": 2, "alpha": 1}}, "'low-data' needs samples"),
        ({"partition": {"kind": "iid", "clients": 2, "samples": 9}}, "belongs to kind 'low-data'"),
        ({"partition": {"kind": "low-data", "clients": 2, "samples": 9}}, "needs alpha > 0"),
    ],
)
def test_studies_that_contradict_themselves_are_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_study(study(**changes))


def test_a_pool_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    raw = study(data={"pool": 3})
    with pytest.raises(ValueError, match="divides both sides of the images, got 3"):
        run_study(parse_study(raw), tmp_path / "run")
    assert not (tmp_path / "run").exists()
