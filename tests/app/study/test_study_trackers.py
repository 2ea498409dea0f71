"""Studies with trackers: told of every round, never the loss of one, and nothing by default."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tracker_readers import tensorboard_values

from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.config.study import StudyConfig
from fedcircuit.app.study.federation import resume_run, run_study
from fedcircuit.app.study.trackers import study_trackers, tracked
from fedcircuit.observers.trackers.tensorboard_tracker import TensorBoardTracker
from fedcircuit.records.runs.run import Run


def study(trackers: Sequence[Any], rounds: int = 2) -> StudyConfig:
    return parse_study(
        {
            "name": "followed",
            "data": {"train_limit": 200, "test_limit": 200},
            "partition": {"kind": "iid", "clients": 2},
            "model": {"name": "simple-cnn", "widths": [6, 8]},
            "training": {"rounds": rounds, "epochs": 1, "optimizer": "adam", "lr": 0.01},
            "circuits": {"probe_per_class": 8, "controls": 2},
            "trackers": trackers,
        }
    )


def test_no_study_has_trackers_unless_it_asks_for_them(tmp_path: Path) -> None:
    assert StudyConfig().trackers == ()
    run_study(study([], rounds=1), tmp_path / "run")
    assert not (tmp_path / "run" / "trackers").exists()


def test_a_study_is_followed_and_a_resumed_one_goes_on_in_the_same_place(tmp_path: Path) -> None:
    path = run_study(study(["tensorboard"]), tmp_path / "run")
    resume_run(path, rounds=3)
    run = Run.load(path)
    assert len(run.observer_errors) == 0
    values = tensorboard_values(path / "trackers" / "tensorboard")
    assert list(values) == [1, 2, 3]
    accuracy = run.table("accuracy")
    whole = accuracy[(accuracy["class"] == -1) & (accuracy["model"] == "global")]
    assert [values[n]["global/accuracy"] for n in (1, 2, 3)] == pytest.approx(
        whole["recall"].tolist()
    )
    verdicts = run.table("verdicts")
    last = verdicts[verdicts["round"] == 3]["verdict"]
    assert values[3]["verdicts/preserved"] == (last == "preserved").sum()
    assert {"recall/7", "clients/0/num_examples", "statuses/valid"} <= set(values[3])
    assert (path / "trackers/tensorboard/report.html").read_bytes()[:15] == b"<!doctype html>"


def test_a_tracker_that_fails_loses_no_round_and_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    folder = str(tmp_path / "file" / "inside")
    path = run_study(study([{"name": "tensorboard", "folder": folder}]), tmp_path / "run")
    run = Run.load(path)
    assert run.rounds == (1, 2)
    assert run.observer_errors["observer"].tolist() == ["tensorboard"] * 2
    assert "NotADirectory" in run.observer_errors["error"][0]
    assert "verdicts" in run.table_names


class Closing:
    """A tracker whose end fails, and one that notes it."""

    name = "closing"

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.reports = error, []  # type: ignore[var-annotated]

    def finish(self, report: Path | None = None) -> None:
        self.reports.append(report)
        if self.error is not None:
            raise self.error


def test_trackers_are_closed_when_a_run_stops_and_one_that_fails_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Closing(OSError("disk full")), Closing()
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(KeyboardInterrupt),
        tracked([bad, good], tmp_path),  # type: ignore[list-item]
    ):
        raise KeyboardInterrupt
    assert good.reports == bad.reports == [None]
    assert "tracker closing could not be closed: OSError: disk full" in caplog.text


def test_a_missing_library_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'fedcircuit\[trackers\]'"):
        run_study(study(["tensorboard"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("trackers", "words"),
    [
        (["tensorbord"], "tensorboard"),
        (["tensorboard", "tensorboard"], "name each once, got tensorboard twice"),
        ([{"name": "tensorboard", "mode": "online"}], "mode is for wandb alone"),
        ([{"name": "wandb", "uri": "http://127.0.0.1"}], "uri is for mlflow alone"),
        ([{"name": "wandb", "folders": "x"}], "folder"),
    ],
)
def test_a_tracker_that_makes_no_sense_is_refused(trackers: list[Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        study(trackers)


def test_the_folder_is_the_users_or_in_the_run(tmp_path: Path) -> None:
    for asked, folder in (
        ("tensorboard", tmp_path / "trackers" / "tensorboard"),
        ({"name": "tensorboard", "folder": str(tmp_path / "mine")}, tmp_path / "mine"),
    ):
        (tracker,) = study_trackers(study([asked]), tmp_path)
        assert isinstance(tracker, TensorBoardTracker)
        assert tracker._folder == folder
