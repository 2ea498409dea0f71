"""Layers of numbered modules: called conv1 and fc1 in tables, figures and on the page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from browser import CHROMIUM, render

from fedcircuit.app.config.files import parse_study
from fedcircuit.app.study.federation import run_study
from fedcircuit.records.runs.run import Run
from fedcircuit.report.figures.writing import write_figures
from fedcircuit.report.page.compare import comparison
from fedcircuit.report.page.page import page_data, write_report

STUDY = {
    "name": "numbers", "data": {"name": "digits"}, "partition": {"kind": "iid", "clients": 2},
    "model": {"name": "simple-cnn", "widths": [8, 8, 12]},
    "training": {"rounds": 1, "epochs": 5, "lr": 0.01, "optimizer": "adam"},
    "circuits": {"probe_per_class": 8},
    "information": {"enabled": True, "pool": 60, "inputs": "binned-count"},
}  # fmt: skip
SITES = {"conv1": "0", "conv2": "3", "conv3": "6"}
TENSORS = {"conv1.weight": "0.weight", "fc1.weight": "10.weight", "fc1.bias": "10.bias"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of a network in an ``nn.Sequential``: its modules have numbers for names."""
    return run_study(parse_study(STUDY, where="test"), tmp_path_factory.mktemp("named") / "run")


@pytest.fixture(scope="module")
def old(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run as an earlier version wrote it: sites without kind and name, no digests."""
    folder = tmp_path_factory.mktemp("old") / "run"
    shutil.copytree(path, folder)
    (folder / "recorded").unlink()
    for file in ("manifest.json", "partition.json"):
        content = json.loads((folder / file).read_text("utf-8"))
        del content["digest"]
        (folder / file).write_text(json.dumps(content), "utf-8")
    text = ""
    for written in (path / "rounds.jsonl").read_text("utf-8").splitlines():
        line = json.loads(written)
        del line["line"], line["arrays"]
        for table in line["observations"].get("circuits", {}).values():
            for part in ("cells", "types"):
                if "live" in table[part]:
                    del table[part]["kind"], table[part]["name"]
        text += json.dumps(line, separators=(",", ":")) + "\n"
    (folder / "rounds.jsonl").write_text(text, "utf-8")
    return folder


def names_in(table: pd.DataFrame, column: str = "layer") -> dict[str, str]:
    pairs = table[[column, "path"]].drop_duplicates()
    return dict(pairs.itertuples(index=False, name=None))


@pytest.mark.parametrize("age", ["path", "old"])
def test_tables_call_layers_by_name_with_the_path_beside(
    age: str, request: pytest.FixtureRequest
) -> None:
    run = Run.load(request.getfixturevalue(age))
    assert names_in(run.table("sites"), "site") == SITES
    assert names_in(run.table("overlap")) == {**SITES, "all": ""}
    assert names_in(run.table("class_swap")) == {**SITES, "all": ""}
    assert names_in(run.table("information")) == SITES
    assert TENSORS.items() <= names_in(run.table("inertia")).items()
    stack = run.masks(1)
    assert stack is not None
    assert [site.name for site in stack.sites] == list(SITES.values())


def test_the_kinds_and_names_are_on_disk_for_other_readers(path: Path) -> None:
    line = json.loads((path / "rounds.jsonl").read_text("utf-8").splitlines()[1])
    cells = line["observations"]["circuits"]["sites"]["cells"]
    assert (cells["site"], cells["name"]) == (list(SITES.values()), list(SITES))
    assert cells["kind"] == ["conv"] * 3


def test_a_run_without_its_weights_still_has_tables(old: Path, tmp_path: Path) -> None:
    for file in ("manifest.json", "rounds.jsonl"):
        shutil.copy(old / file, tmp_path)
    assert names_in(Run.load(tmp_path).table("sites"), "site") == {p: p for p in SITES.values()}


@pytest.mark.parametrize("age", ["path", "old"])
def test_nothing_on_the_page_is_called_by_a_number(
    age: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = Run.load(request.getfixturevalue(age))
    data = page_data(run)
    assert [(s["name"], s["path"], s["unit"]) for s in data["circuits"]["sites"]] == [
        (name, at, "channel") for name, at in SITES.items()
    ]
    assert {row["layer"] for row in data["overlap"]["mean"]} == {*SITES, "all"}
    assert {row["layer"] for row in data["questions"]} == {*SITES, "all"}
    if CHROMIUM is None:
        return
    drawn = render(write_report(run, tmp_path / "page.html"), tmp_path / "profile")
    assert drawn.console == ()
    shown = drawn.dom.split('<script type="application/json"')[0]
    assert "conv1 (module 0)" in shown
    assert "conv3, round 1" not in shown  # a tip names the module too
    assert not re.search(r"layer \d", shown)


def test_figures_and_their_data_have_both(path: Path, tmp_path: Path) -> None:
    written = write_figures(Run.load(path), tmp_path, formats=("svg",))
    for figure in ("overlap", "inertia", "information"):
        assert tmp_path / f"{figure}.svg" in written
        text = (tmp_path / f"{figure}.svg").read_text("utf-8")
        assert "conv1" in text
        assert not re.search(r"layer \d", text)
    assert names_in(pd.read_csv(tmp_path / "overlap.csv", dtype=str).fillna("")) == {
        **SITES, "all": "",
    }  # fmt: skip


def test_a_comparison_names_layers_too(path: Path) -> None:
    columns = comparison([Run.load(path)]).columns
    assert {"IoU conv1", "chance conv3", "IoU all"} <= set(columns)
    assert not [name for name in columns if "layer" in name]


def test_a_table_of_ones_own_with_numbers_for_layers_is_left_alone(path: Path) -> None:
    frame = pd.DataFrame({"round": [1], "layer": [0]})
    assert Run.load(path).layer_names.named(frame) is frame
