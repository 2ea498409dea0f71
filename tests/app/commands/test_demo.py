"""What the demo shows and says, and what its process does not have to import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fedcircuit.app.commands.demo import alone, introduction, what_one_sees
from fedcircuit.app.config.files import parse_study
from fedcircuit.records.runs.run import Run
from fedcircuit.report.tables import counts as tables

SLOW = {
    "matplotlib", "seaborn", "torchvision", "ray", "datasets", "sympy",
    "torch._dynamo", "torch._inductor", "flwr.simulation",
}  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The demo as a shell runs it, imports and all; every import is a line on stderr."""
    folder = tmp_path_factory.mktemp("demo")
    command = ["-X", "importtime", "-m", "fedcircuit", "demo", "--out", "out", "--verbose"]
    ran = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=folder, timeout=120,
        check=False, env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    return folder / "out", ran


def test_the_demo_ends_with_a_verdict_and_the_path_of_a_report(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, result = demo
    lines = result.stderr.splitlines()
    assert result.returncode == 0, result.stderr[-3000:]
    assert [line for line in lines if not line.startswith("import time:")] == []
    assert "circuits in round 4" in result.stdout
    assert result.stdout.rstrip().endswith("report: out/report.html")
    assert (out / "report.html").stat().st_size > 20_000


def config() -> object:
    text = files("fedcircuit.app.commands").joinpath("demo.yaml").read_text("utf-8")
    return parse_study(yaml.safe_load(text))


def test_the_demo_imports_nothing_slow_that_it_does_not_need(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    loaded = {line.split("|")[-1].strip() for line in demo[1].stderr.splitlines()}
    assert {"torch", "flwr.serverapp", "fedcircuit.report.page.page"} <= loaded
    assert loaded & SLOW == set()


def test_in_the_demo_verdicts_change_and_what_one_client_holds_fares_worse(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run = Run.load(demo[0])
    judged = tables.judged(run)
    judged = judged[judged["verdict"].notna()]
    (single,) = alone(run.manifest["config"]["partition"]["classes"])
    shared, lonely = judged[judged["class"] != single], judged[judged["class"] == single]

    kept = judged.assign(kept=judged["verdict"] == "preserved").groupby("round")["kept"].mean()
    accuracy = tables.accuracy(run)["accuracy"].tolist()
    assert kept.iloc[0] < 0.5 < kept.iloc[-1]
    assert accuracy[0] > 0.3  # chance is .1
    assert accuracy[-1] > accuracy[0] + 0.05
    assert len(set(shared["verdict"])) >= 3
    assert "collapsed" in set(lonely["verdict"])
    assert "preserved" not in set(lonely["verdict"])


def test_what_is_said_is_what_was_recorded(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, told = demo[1].stdout, what_one_sees(Run.load(demo[0]))
    assert told in out
    assert introduction(config()) in out  # type: ignore[arg-type]
    assert "where chance gives" in out  # the chance level stands beside the overlap
    assert re.search(r"^seconds: .*imports \d", out, re.M)
    assert "  seconds: train " in out
    judged = tables.judged(Run.load(demo[0]))
    last = judged[(judged["round"] == 4) & judged["verdict"].notna()]
    n = int((last["verdict"] == "preserved").sum())
    assert f"in round 4: {n} of {len(last)} valid circuits." in told


def test_digits_of_one_client_are_told_from_those_that_several_hold() -> None:
    assert alone([[0, 1], [1, 2], [2]]) == (0,)
    assert alone([[3], [4]]) == (3, 4)
    assert alone([[3], [3]]) == ()


class MadeUp:
    """A run with the two things that the text is made from."""

    def __init__(self) -> None:
        self.rounds, self.class_names = (1, 2), ("zero", "one")
        self.partition = {"counts": [[5, 4], [5, 0]]}  # two clients hold class 0, one class 1


def test_the_text_counts_verdicts_by_how_many_hold_the_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [
        (1, "0", 0, "relocated"), (1, "1", 0, "preserved"), (1, "0", 1, "collapsed"),
        (2, "0", 0, "preserved"), (2, "1", 0, "preserved"), (2, "0", 1, "undiscovered"),
    ]  # fmt: skip
    frame = pd.DataFrame(words, columns=["round", "client", "class", "word"])
    monkeypatch.setattr(tables, "judged", lambda run: frame)
    text = what_one_sees(MadeUp())  # type: ignore[arg-type]
    assert "preserved in round 1: 1 of 3 valid circuits; in round 2: 2 of 2 valid" in text
    assert "several clients hold: 3 preserved, 1 relocated." in text
    assert "digit one, which one client holds: 1 collapsed." in text
    monkeypatch.setattr(tables, "judged", lambda run: frame.iloc[:0])
    assert what_one_sees(MadeUp()) == "No circuit could be judged."  # type: ignore[arg-type]
