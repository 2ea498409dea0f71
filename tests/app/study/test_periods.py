"""Studies that average every few steps, or never: the same batches, other moments of averaging."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.study.data import dataset_of, source_of
from fedcircuit.app.study.federation import resume_run, run_study
from fedcircuit.app.study.memory import forgotten
from fedcircuit.app.study.parts import build_study, local_training
from fedcircuit.learning.seeds import derived_seed
from fedcircuit.learning.training.batches import Passes
from fedcircuit.learning.training.local_training import Continuation, LocalTraining, train_local
from fedcircuit.learning.weights import get_weights
from fedcircuit.records.runs.run import Run


def study(rounds: int, steps: int, clients: int = 1, **training: Any) -> dict[str, Any]:
    return {
        "name": "periods",
        "data": {"train_limit": 200, "test_limit": 200, "pool": 2},
        "partition": {"kind": "iid", "clients": clients},
        "model": {"name": "mlp", "widths": [6]},
        "training": {
            "rounds": rounds, "steps": steps, "batch_size": 32, "optimizer": "adam", "lr": 0.01,
            "optimizer_state": "kept", **training,
        },
        "circuits": {"enabled": False, "probe_per_class": 4},
        "inertia": {"enabled": False},
    }  # fmt: skip


def run_of(path: Path, raw: dict[str, Any]) -> Run:
    return Run.load(run_study(parse_study(raw), path))


def bits(run: Run, number: int) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in run.weights(number).items()}


def test_one_client_averaged_at_every_step_is_one_uninterrupted_training(tmp_path: Path) -> None:
    every, never = (
        run_of(tmp_path / f"{rounds}", study(rounds, 12 // rounds)) for rounds in (12, 1)
    )
    assert bits(every, 12) == bits(never, 1)

    parts = build_study(parse_study(study(12, 1)))
    model = parts.model()
    training = LocalTraining(steps=12, batch_size=32, optimizer="adam", lr=0.01)
    start = Continuation(batch_seed=derived_seed(0, "batches", 0))
    data = dataset_of(source_of(parts.config), 0).train.take(
        torch.from_numpy(parts.partition.indices[0])
    )
    train_local(model, data, training, n_classes=10, seed=1, start=start)
    assert bits(every, 12) == {n: v.tobytes() for n, v in get_weights(model).items()}


def test_with_several_clients_the_period_matters_and_fresh_optimisers_too(tmp_path: Path) -> None:
    ends = {
        "1": bits(run_of(tmp_path / "1", study(8, 1, 3)), 8),
        "4": bits(run_of(tmp_path / "4", study(2, 4, 3)), 2),
        "never": bits(run_of(tmp_path / "never", study(1, 8, 3)), 1),
        "fresh": bits(run_of(tmp_path / "fresh", study(8, 1, 3, optimizer_state="fresh")), 8),
    }
    assert len({tuple(sorted(end.items())) for end in ends.values()}) == 4


def test_the_never_averaged_run_holds_the_local_models_and_their_mean(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", study(1, 8, 2))
    locals_ = [run.client_weights(1, str(client)) for client in range(2)]
    for name, values in run.weights(1).items():
        mean = np.mean([one[name] for one in locals_], axis=0)  # both hold 100 samples
        np.testing.assert_allclose(values, mean, rtol=1e-5, atol=1e-7)
        assert not np.array_equal(locals_[0][name], locals_[1][name])


def test_a_resumed_run_warns_of_the_optimisers_and_takes_the_next_batches(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = study(4, 2, 2)
    run_study(parse_study(raw, ["training.rounds=2"]), tmp_path / "kept")
    assert "forget" not in caplog.text
    with caplog.at_level(logging.WARNING, logger="fedcircuit"):
        resume_run(tmp_path / "kept", rounds=4)
    assert "clients forget the state of their optimisers when a run stops" in caplog.text

    caplog.clear()
    plain = study(4, 2, 2, optimizer="sgd", optimizer_state="fresh")
    whole = run_of(tmp_path / "whole", plain)
    run_study(parse_study(plain, ["training.rounds=2"]), tmp_path / "stopped")
    with caplog.at_level(logging.WARNING, logger="fedcircuit"):
        resumed = Run.load(resume_run(tmp_path / "stopped", rounds=4))
    assert caplog.text == ""
    assert bits(whole, 4) == bits(resumed, 4)


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({}, ("the state of their optimisers",)),
        ({"training.optimizer": "sgd"}, ()),
        ({"training.optimizer": "sgd", "training.momentum": 0.9},
         ("the state of their optimisers",)),
        ({"training.optimizer_state": "fresh"}, ()),
        ({"strategy.lips.score": "sensitivity", "strategy.lips.sync_bn": False},
         ("their last gradients", "the state of their optimisers")),
        ({"training.batch_norm": "own", "storage.updates": "none"},
         ("their own batch norm", "the state of their optimisers")),
        ({"training.optimizer": "sgd", "training.feddyn_alpha": 0.1}, ()),
        ({"training.optimizer": "sgd", "training.feddyn_alpha": 0.1, "storage.updates": "none"},
         ("their gradients of FedDyn",)),
        ({"training.optimizer": "sgd", "training.scaffold": True, "storage.updates": "none"}, ()),
        ({"strategy.lips.sync_bn": False, "storage.updates": "delta-fp16"},
         ("the last digits of their own batch norm", "the state of their optimisers")),
    ],
)  # fmt: skip
def test_what_clients_forget_is_what_they_keep(
    changes: dict[str, object], lost: tuple[str, ...]
) -> None:
    overrides = [f"{key}={value}" for key, value in changes.items()]
    assert forgotten(parse_study(study(2, 2), overrides)) == lost


def test_a_study_of_the_twelve_bits_with_sorted_labels_runs(tmp_path: Path) -> None:
    raw = study(2, 3, 4)
    raw["data"] = {"name": "szt", "test_share": 0}
    raw["partition"]["kind"] = "sorted"
    raw["model"] = {"name": "mlp", "widths": [10, 7, 5, 4, 3], "activation": "tanh"}
    run = run_of(tmp_path / "run", raw)
    assert run.partition is not None
    # 2,090 patterns of class 0 and 2,006 of class 1, in four parts of 1,024
    assert run.partition["counts"] == [[1024, 0], [1024, 0], [42, 982], [0, 1024]]
    assert run.partition["kind"] == "sorted"
    parts = build_study(parse_study(raw))
    assert "Tanh" in str(parts.model())
    assert len(parts.train_labels) == 4096
    assert len(parts.test) == 4096 - 8


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.test_share=0.5"], "test_share belongs to parquet, .*szt; the data set is 'digits'"),
        (["data.name=szt", "data.test_share=1"], "data.test_share: .*less than 1"),
        (["model.activation=tanh"], "activation 'tanh' belongs to mlp, the model is 'simple-cnn'"),
        (["partition.kind=sorted"], "kind 'sorted' needs clients"),
    ],
)
def test_settings_that_belong_elsewhere_are_refused(overrides: list[str], words: str) -> None:
    raw: dict[str, Any] = {"partition": {}} if "partition" in overrides[0] else {}
    with pytest.raises(ConfigError, match=words):
        parse_study(raw, overrides)


def test_a_study_has_epochs_or_steps_and_one_epoch_without_either() -> None:
    with pytest.raises(ConfigError, match="training: a round has either epochs or steps, got"):
        parse_study({"training": {"epochs": 2, "steps": 3}})
    assert local_training(parse_study({})).n_steps(Passes(64 * 5, 64)) == 5
    switched = parse_study(study(2, 3), ["training.steps=null", "training.epochs=2"])
    assert local_training(switched).n_steps(Passes(32 * 5, 32)) == 10
