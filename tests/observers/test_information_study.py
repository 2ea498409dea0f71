"""Studies that measure the information plane: their rounds, their pool, their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedcircuit.analysis.estimators.settings import InformationSettings
from fedcircuit.analysis.information.pool import stratified_pool
from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.study.federation import resume_run, run_study
from fedcircuit.app.study.parts import build_study
from fedcircuit.observers.information import information_of_run
from fedcircuit.records.runs.run import Run


def study(**information: Any) -> dict[str, Any]:
    return {
        "name": "plane",
        "seed": 5,
        "data": {"train_limit": 200, "test_limit": 300, "pool": 2},
        "partition": {"kind": "iid", "clients": 3},
        "model": {"name": "mlp", "widths": [6, 5, 4]},
        "training": {"rounds": 13, "steps": 1, "batch_size": 16, "lr": 0.1},
        "circuits": {"enabled": False, "probe_per_class": 4},
        "inertia": {"enabled": False},
        "information": {"enabled": True, "pool": 120, "labels": "binned-count", "bins": 2,
                        "permutations": 1, **information},
    }  # fmt: skip


def run_of(path: Path, raw: dict[str, Any]) -> Run:
    return Run.load(run_study(parse_study(raw), path))


def test_a_study_is_measured_on_test_images_and_again_from_its_folder(tmp_path: Path) -> None:
    raw = study(rounds="logarithmic", max_clients=2, beta=0.3)
    run = run_of(tmp_path / "run", raw)
    table, gaps = run.table("information"), run.table("information_gap")
    assert sorted(gaps["round"].unique()) == [1, 2, 3, 4, 5, 6, 8, 10, 13]
    assert set(table["n"]) == {120}
    assert list(dict.fromkeys(table["d"])) == [6, 5, 4]
    assert table.groupby("round")["model"].nunique().eq(4).all()  # global, two clients, their mean
    assert (
        table.loc[table["quantity"] == "I(X;T)", "setting"].str.contains("0.3^2", regex=False).all()
    )

    built = build_study(parse_study(raw))
    settings = InformationSettings(labels="binned-count", bins=2, permutations=1, beta=0.3)
    found = information_of_run(
        run, built.model(), stratified_pool(built.test, 120, seed=5), settings,
        rounds=[1, 2, 3, 4, 5, 6, 8, 10, 13], max_clients=2, seed=5,
    )  # fmt: skip
    pd.testing.assert_frame_equal(found.plane, table, check_exact=True)
    pd.testing.assert_frame_equal(found.gaps, gaps, check_exact=True)


def test_a_resumed_study_is_measured_as_one_that_never_stopped(tmp_path: Path) -> None:
    raw = study(rounds="logarithmic")
    raw["training"]["rounds"] = 14
    whole = run_of(tmp_path / "whole", raw).table("information")
    raw["training"]["rounds"] = 7
    path = resume_run(run_study(parse_study(raw), tmp_path / "parts"), rounds=14)
    parts = Run.load(path).table("information")
    assert set(whole["round"]) - set(parts["round"]) == {14}  # the last round of the one
    assert set(parts["round"]) - set(whole["round"]) == {7}  # and of the other
    expected = whole[whole["round"] != 14].reset_index(drop=True)
    found = parts[parts["round"] != 7].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_it_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    raw = study()
    raw["training"]["rounds"] = 1
    raw["information"] = {}
    assert "information" not in run_of(tmp_path / "run", raw).table_names


@pytest.mark.parametrize(
    ("information", "words"),
    [
        ({"rounds": [1, 2], "every": 2}, "rounds and every exclude each other"),
        ({"rounds": [0]}, "one or more numbers >= 1, got [0]"),
        ({"rounds": []}, "one or more numbers >= 1"),
        ({"bin_range": [1, -1]}, "bin_range must be (low, high)"),
        ({"inputs": "probe"}, "inputs"),
    ],
)
def test_what_contradicts_itself_is_refused(information: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_study(study(**information))
    assert words in str(error.value)
