import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_sweeps import tiny_sweep

from fedcircuit.app.sweeps import run_sweep
from fedcircuit.records.runs import Run
from fedcircuit.records.sweeps import Sweep
from fedcircuit.report.sweeps import runs_table, write_sweep_report


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two arms that share what they should, one that does not, with three seeds."""
    arms = ("a<b>=".replace("<b>", "-1"), "lr=training.lr=0.05", "other=partition.alpha=5.0")
    return run_sweep(tiny_sweep(tmp_path_factory.mktemp("page"), *arms, unpaired=True))


def test_rows_hold_what_the_runs_recorded(sweep: Sweep) -> None:
    table = runs_table(sweep)

    assert list(table["run"]) == [f"{arm}/seed{seed}" for arm in sweep.arms for seed in range(3)]
    row = table.iloc[4]
    run = Run.load(sweep.path / "lr" / "seed1")
    measured = run.table("accuracy").query("round == 3 and model == 'global'").set_index("class")
    assert row["accuracy"] == measured.loc[-1, "recall"]
    assert row["worst-class recall"] == measured.drop(-1)["recall"].min()
    assert row["seconds"] == pytest.approx(run.seconds.drop(columns="round").sum().sum())
    assert np.isnan(row["preserved share"])  # no circuits were looked for
    # an MLP of 64 inputs, 12 units, 10 classes: weights and biases as float32
    assert row["bytes down"] == 4 * (64 * 12 + 12 + 12 * 10 + 10)
    assert row["bytes down"] < row["bytes up"] < row["bytes down"] + 300  # and the side record


def test_the_page_opens_offline_and_says_everything(sweep: Sweep, tmp_path: Path) -> None:
    page, found = write_sweep_report(sweep)

    html = page.read_text(encoding="utf-8")
    assert page == sweep.path / "sweep.html"
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", html)
    assert "<svg" in html
    assert "Arms differ in partition, as was asked for" in html
    assert "Not paired: other, seed 0: other partition than a-1." in html
    assert not any("lr, seed" in words for words in found.broken)
    for figure in ("accuracy", "worst-class recall", "bytes up"):
        assert f">{figure}</th>" in html
    for end in ("-runs.csv", "-arms.csv", "-differences.csv", ".svg", ".pdf", ".png"):
        assert (sweep.path / f"sweep{end}").stat().st_size > 50
    read = pd.read_csv(sweep.path / "sweep-runs.csv")
    assert list(read["accuracy"]) == list(found.runs["accuracy"])


def test_the_same_sweep_gives_the_same_page(sweep: Sweep, tmp_path: Path) -> None:
    first, _ = write_sweep_report(sweep, tmp_path / "one.html")
    second, _ = write_sweep_report(sweep, tmp_path / "two.html")

    assert first.read_bytes() == second.read_bytes()


def test_a_sweep_without_a_finished_run_has_nothing_to_compare(tmp_path: Path) -> None:
    plan = tiny_sweep(tmp_path)

    with pytest.raises(ValueError, match="has no finished run yet"):
        write_sweep_report(plan)


def test_the_page_must_be_html(sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be called NAME.html, got page.csv"):
        write_sweep_report(sweep, tmp_path / "page.csv")
