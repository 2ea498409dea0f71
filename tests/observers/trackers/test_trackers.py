"""What trackers are told of a round, and what can be read back from them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tracker_readers import mlflow_values, tensorboard_values, wandb_values

from fedcircuit import MlflowTracker, TensorBoardTracker, WandbTracker
from fedcircuit.circuits.checks.validity import Status
from fedcircuit.circuits.verdicts.judging import Verdict
from fedcircuit.observers.trackers.tracking import Tracker, kept_id, plain_name, round_numbers
from fedcircuit.records.rounds.round_record import (
    GLOBAL,
    ClientRecord,
    Failure,
    Observation,
    RoundView,
    Table,
)

NAMES = ("0", "cat/<b>", "2")
WEIGHTS = {"w": np.zeros(1, dtype=np.float32)}


def a_view(number: int = 3, accuracy: float = 0.5) -> RoundView:
    """Two clients, three classes: of six pairs four circuits are valid, one without an IoU."""
    accuracies = Table(
        ("model", "class", "recall", "fpr", "n", "loss"),
        (("global", -1, accuracy, nan, 9, 1.5), ("global", 0, 0.25, 0.1, 3, nan),
         ("global", 1, 0.75, 0.1, 3, nan), ("global", 2, nan, 0.1, 0, nan)),
    )  # fmt: skip
    statuses = {("a", 0): "valid", ("a", 1): "valid", ("a", 2): "absent",
                ("b", 0): "valid", ("b", 1): "undiscovered", ("b", 2): "valid"}  # fmt: skip
    own = tuple((client, c, status) for (client, c), status in statuses.items())
    validity = Table(("model", "class", "status"), (("global", 0, "valid"), *own))
    verdicts = Table(
        ("client", "class", "verdict", "reason"),
        (("a", 0, "preserved", ""), ("a", 1, "collapsed", ""), ("a", 2, None, ""),
         ("b", 0, "preserved", ""), ("b", 1, None, ""), ("b", 2, None, "")),
    )  # fmt: skip
    overlap = Table(
        ("client", "class", "layer", "iou", "chance", "adjusted"),
        (("a", 0, "all", 0.8, 0.2, 0.7), ("a", 0, "conv1", 0.1, 0.1, 0.0),
         ("b", 0, "all", 0.4, 0.1, 0.3), ("b", 1, "all", 1.0, 1.0, 1.0),
         ("b", 2, "all", nan, nan, nan)),
    )  # fmt: skip
    return RoundView(
        number, WEIGHTS, WEIGHTS,
        clients=(ClientRecord("a", 10, WEIGHTS, {"train_loss": 0.125}),),
        hidden=(ClientRecord("b", 20, {}, {"train_loss": nan}),),
        metrics={"mean loss": 0.25},
        failures=(Failure("c", "lost", "no reply"),),
        seen={
            "evaluation": Observation({"accuracy": accuracies}),
            "circuits": Observation(
                {"validity": validity, "verdicts": verdicts, "overlap": overlap}
            ),
        },
    )  # fmt: skip


def expected(accuracy: float = 0.5) -> dict[str, float]:
    counts = {f"verdicts/{verdict}": 0.0 for verdict in Verdict}
    counts |= {f"statuses/{status}": 0.0 for status in Status}
    counts |= {"verdicts/preserved": 2, "verdicts/collapsed": 1, "statuses/valid": 4}
    counts |= {"statuses/absent": 1, "statuses/undiscovered": 1}
    return {
        **counts, "global/accuracy": accuracy, "global/loss": 1.5, "recall/0": 0.25,
        "recall/1 cat_2f__3c_b_3e_": 0.75, "overlap/iou": 0.6, "overlap/chance": 0.15,
        "overlap/adjusted": 0.5, "metrics/mean loss": 0.25, "clients/a/num_examples": 10,
        "clients/a/train_loss": 0.125, "clients/b/num_examples": 20, "replies/accepted": 2,
        "replies/set aside": 1,
    }  # fmt: skip


def test_a_round_becomes_numbers_and_what_is_undefined_is_left_out() -> None:
    assert round_numbers(a_view(), NAMES) == pytest.approx(expected())


def test_a_round_nobody_looked_at_has_its_replies_alone() -> None:
    view = RoundView(1, WEIGHTS, WEIGHTS, clients=())
    assert round_numbers(view) == {"replies/accepted": 0, "replies/set aside": 0}


def test_a_failure_of_the_round_is_no_reply_set_aside() -> None:
    failures = (Failure(GLOBAL, "metrics", "no majority"), Failure("1", "lost", "no reply"))
    view = RoundView(1, WEIGHTS, WEIGHTS, clients=(), failures=failures)
    assert round_numbers(view) == {"replies/accepted": 0, "replies/set aside": 1}


def test_names_that_differ_stay_different() -> None:
    texts = ["a", "a/b", "a_b", "..", ".", "", "ü", "a b"]
    assert len({plain_name(text) for text in texts}) == len(texts)
    assert "/" not in "".join(map(plain_name, texts))


def test_an_identity_stays_in_its_folder(tmp_path: Path) -> None:
    first = kept_id(tmp_path / "new", "id")
    assert kept_id(tmp_path / "new", "id") == first
    assert kept_id(tmp_path / "other", "id", "made") == "made"


def told(tracker: Tracker, report: Path | None, *views: RoundView) -> None:
    for view in views:
        assert tracker(view) == Observation()
    tracker.finish(report)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<p>report</p>")
    return path


def close(found: Mapping[int, Mapping[str, float]], wanted: Mapping[int, Any]) -> None:
    assert list(found) == list(wanted)
    for number, numbers in wanted.items():
        assert dict(found[number]) == pytest.approx(numbers)


def test_tensorboard_reads_back_every_round_and_those_run_again_once(
    tmp_path: Path, report: Path
) -> None:
    folder = tmp_path / "events"
    told(TensorBoardTracker(folder, NAMES), None, a_view(1, 0.1), a_view(2, 0.2), a_view(3, 0.9))
    # resumed after round 2: round 3 comes again, with another result
    told(TensorBoardTracker(folder, NAMES), report, a_view(3, 0.3))
    wanted = {number: expected(number / 10) for number in (1, 2, 3)}
    close(tensorboard_values(folder), wanted)
    assert (folder / "report.html").read_text() == "<p>report</p>"


def test_a_tracker_without_a_round_writes_nothing(tmp_path: Path) -> None:
    TensorBoardTracker(tmp_path / "events").finish()
    assert not (tmp_path / "events").exists()


def test_wandb_keeps_an_offline_run_that_goes_on_under_its_identity(
    tmp_path: Path, report: Path
) -> None:
    pytest.importorskip("wandb", reason="wandb is in the extra trackers, not in dev: too large")
    folder = tmp_path / "wandb"
    told(WandbTracker(folder, NAMES), None, a_view(1, 0.1), a_view(2, 0.2))
    told(WandbTracker(folder, NAMES), report, a_view(3, 0.3))
    runs = wandb_values(folder)
    wanted = {n: {**expected(n / 10), "round": n} for n in (1, 2, 3)}
    close({n: numbers for _, rounds in runs for n, numbers in rounds.items()}, wanted)
    assert {identity for identity, _ in runs} == {kept_id(folder, "wandb-run-id")}
    kept = list(folder.glob("wandb/offline-run-*/files/report.html"))
    assert [path.read_text() for path in kept] == ["<p>report</p>"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_keeps_one_run_in_its_data_base(tmp_path: Path, report: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is in the extra trackers, not in dev")
    folder = tmp_path / "mlflow"
    told(MlflowTracker(folder, NAMES), None, a_view(1, 0.1), a_view(2, 0.2))
    told(MlflowTracker(folder, NAMES), report, a_view(3, 0.3))
    values, status, artifacts = mlflow_values(folder)
    close(values, {number: expected(number / 10) for number in (1, 2, 3)})
    assert status == "FINISHED"
    assert artifacts == ["report.html"]
    assert [path.read_text() for path in folder.rglob("report.html")] == ["<p>report</p>"]


@pytest.mark.parametrize(
    ("tracker", "module", "package"),
    [(TensorBoardTracker, "tensorboard", "tensorboard"), (WandbTracker, "wandb", "wandb"),
     (MlflowTracker, "mlflow", "mlflow-skinny")],
)  # fmt: skip
def test_a_missing_library_is_told_with_the_command(
    tracker: Any, module: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(ImportError, match=rf"{package}, .* pip install 'fedcircuit\[trackers\]'"):
        tracker(tmp_path)


def test_an_unknown_mode_of_wandb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "wandb" not in sys.modules:
        import types

        module = types.ModuleType("wandb")
        module.__spec__ = type("Spec", (), {})()  # type: ignore[assignment]  # "it is installed"
        monkeypatch.setitem(sys.modules, "wandb", module)
    with pytest.raises(ValueError, match="mode must be 'offline' or 'online', got 'on'"):
        WandbTracker(tmp_path, mode="on")  # type: ignore[arg-type]
