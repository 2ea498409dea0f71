"""Runs side by side: what is one study, and what is its mean and spread."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

import pandas as pd
import pytest
from browser import CHROMIUM, render
from made_up_runs import Story, make_run

from fedcircuit.records.runs.run import Run
from fedcircuit.report.page.compare import (
    comparison,
    comparison_text,
    mean_and_sd,
    spread,
    study_names,
    summary_row,
    write_comparison,
)
from fedcircuit.report.tables import overlaps


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Three seeds of one study and two of another, in one of which no circuit is valid."""
    folder = tmp_path_factory.mktemp("compare")
    stories = [
        Story(seed=0, quality=0.0),
        Story(seed=1, quality=0.1),
        Story(seed=2, quality=0.5),
        Story(seed=0, alpha=1.0, quality=0.3),
        Story(seed=1, alpha=1.0, quality=0.2, none_valid=True),
    ]
    return [make_run(folder / str(i), story) for i, story in enumerate(stories)]


def test_a_row_holds_the_last_round(runs: list[Run]) -> None:
    row = summary_row(runs[0])
    assert row["accuracy"] == pytest.approx(0.24)
    assert row["valid share"] == pytest.approx(10 / 12)
    assert row["preserved share"] == pytest.approx(7 / 10)
    counts = [row[name] for name in ("preserved", "relocated", "degraded", "collapsed")]
    assert counts == [7, 0, 1, 2]
    overlap = overlaps.mean_overlap(runs[0])
    last = overlap[(overlap["round"] == 4) & (overlap["layer"] == "conv2")].iloc[0]
    assert row["IoU conv2"] == last["iou"]
    assert row["chance conv2"] == last["chance"]
    assert row["adjusted IoU conv2"] == last["adjusted"]
    whole = overlap[(overlap["round"] == 4) & (overlap["layer"] == "all")].iloc[0]
    assert row["weighted IoU all"] == whole["weighted"]
    assert row["above chance (q)"] == whole["discovered"] / 10
    assert row["adjusted IoU other classes"] == whole["swapped"]
    assert row["closest to own class"] == whole["closest"] / 10
    assert "noise ceiling all" not in row


def test_what_an_older_run_lacks_is_not_defined_beside_newer_ones(tmp_path: Path) -> None:
    old = make_run(tmp_path / "old", Story(measured_from=99))
    new = make_run(tmp_path / "new", Story(seed=1, ceiling=True))
    assert "weighted IoU all" not in summary_row(old)
    table = spread(comparison([old, new])).set_index(["study", "figure"])
    figures = {str(figure) for _, figure in table.index}
    assert {"weighted IoU all", "adjusted IoU other classes", "noise ceiling all"} <= figures
    for figure in ("weighted IoU all", "noise ceiling all", "above chance (q)"):
        row = table.loc[("made-up", figure)]
        assert row["n"] == 1
        assert row["mean"] == pytest.approx(summary_row(new)[figure])


def test_runs_that_differ_in_the_seed_alone_are_one_study(runs: list[Run]) -> None:
    assert (
        study_names(runs)
        == ["made-up (partition.alpha=0.1)"] * 3 + ["made-up (partition.alpha=1.0)"] * 2
    )
    assert study_names(runs[:3]) == ["made-up"] * 3


def test_mean_and_spread_are_over_seeds(runs: list[Run]) -> None:
    table = spread(comparison(runs)).set_index(["study", "figure"])
    accuracies = [0.24, 0.34, 0.74]
    row = table.loc[("made-up (partition.alpha=0.1)", "accuracy")]
    assert row["mean"] == pytest.approx(mean(accuracies))
    assert row["sd"] == pytest.approx(stdev(accuracies))
    assert row["n"] == 3


def test_an_undefined_figure_enters_no_mean(runs: list[Run]) -> None:
    table = spread(comparison(runs)).set_index(["study", "figure"])
    row = table.loc[("made-up (partition.alpha=1.0)", "IoU all")]
    assert row["n"] == 1
    assert row["mean"] == pytest.approx(summary_row(runs[3])["IoU all"])
    assert pd.isna(row["sd"])


def test_the_text_has_seeds_spread_and_a_warning_for_few_of_them(runs: list[Run]) -> None:
    text = comparison_text(runs)
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "0, 1, 2" in lines["seeds"]
    assert "0.440 ± 0.265" in lines["accuracy"]  # 0.24, 0.34, 0.74
    assert "0.700 (1 of 2 seeds)" in lines["preserved share"]
    assert text.splitlines()[-1] == (
        "Fewer than 3 seeds, so the spread says little: made-up (partition.alpha=1.0)"
    )


def test_words_for_a_mean() -> None:
    nan = float("nan")
    assert mean_and_sd(0.51234, 0.03, n=3, of=3) == "0.512 ± 0.030"
    assert mean_and_sd(0.5, nan, n=1, of=1) == "0.500"
    assert mean_and_sd(0.5, 0.1, n=2, of=3) == "0.500 ± 0.100 (2 of 3 seeds)"
    assert mean_and_sd(nan, nan, n=0, of=3) == "not defined"


def test_the_page_and_its_csvs_hold_the_same_numbers(runs: list[Run], tmp_path: Path) -> None:
    page = write_comparison(runs, tmp_path / "all.html")
    text = page.read_text(encoding="utf-8")
    assert "0.440 ± 0.265" in text
    assert "not defined" in text  # the IoU of the run without a valid circuit
    rows = pd.read_csv(tmp_path / "all.csv")
    expected = comparison(runs)
    pd.testing.assert_frame_equal(rows, expected, check_dtype=False)
    studies = pd.read_csv(tmp_path / "all-studies.csv")
    pd.testing.assert_frame_equal(studies, spread(expected), check_dtype=False)
    accuracy = text.split(">accuracy</td>")[1].split("</tr>")[0]
    assert accuracy.count("<circle") == 5  # a dot for every seed
    if CHROMIUM is not None:
        assert render(page, tmp_path / "profile").console == ()


def test_runs_without_circuits_can_be_compared(tmp_path: Path) -> None:
    bare = [make_run(tmp_path / str(s), Story(seed=s, circuits=False)) for s in range(2)]
    assert "IoU" not in comparison_text(bare)
    assert "accuracy" in comparison_text(bare)


def test_one_experiment_is_never_counted_twice(runs: list[Run]) -> None:
    with pytest.raises(ValueError, match="the same seed 1, so they are one experiment"):
        comparison([runs[1], runs[0], runs[1]])


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="name at least one run folder"):
        comparison([])
