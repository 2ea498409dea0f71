"""A study that asks its clients for what LIVAR needs, and how the record keeps it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.study.federation import run_study
from fedcircuit.app.study.parts import local_training
from fedcircuit.learning.training import FeatureVariance
from fedcircuit.records.runs.run import Run

TRAINING = {"rounds": 1, "feature_variance": {"epoch": "all"}, "path_importance": True}
STUDY = {
    "data": {"train_limit": 120, "test_limit": 60},
    "partition": {"kind": "classes", "classes": [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]},
    "model": {"name": "mlp", "widths": [6]},
    "training": TRAINING,
    "circuits": {"enabled": False},
}


def test_the_options_of_a_study_are_those_of_its_clients() -> None:
    training = local_training(parse_study({"training": TRAINING}))
    assert training.feature_variance == FeatureVariance(epoch="all")
    assert training.path_importance
    assert local_training(parse_study({})).feature_variance is None
    empty = local_training(parse_study({"training": {"feature_variance": {}}}))
    assert empty.feature_variance == FeatureVariance()
    with pytest.raises(ConfigError, match="epoch"):
        parse_study({"training": {"feature_variance": {"epoch": "first"}}})


def test_what_clients_say_is_recorded_with_what_they_do_not_know(tmp_path: Path) -> None:
    run_study(parse_study(STUDY), tmp_path / "run")
    for client in Run.load(tmp_path / "run").record(1).clients:
        known = [not math.isnan(value) for value in client.extra["class-variances"]]
        assert known == [count >= 2 for count in client.extra["class-counts"]]
        assert 0 < sum(known) < 10
        assert client.extra["path-layers"] == ["1.weight", "3.weight"]
        assert all(value > 0 for value in client.extra["path-importance"])
