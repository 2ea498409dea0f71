from math import isnan, nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedcircuit.records.sweeps import Sweep
from fedcircuit.report.sweeps.figure import draw
from fedcircuit.report.sweeps.measures import FIGURES, size_of
from fedcircuit.report.sweeps.tables import Compared, arms_table, differences_table
from fedcircuit.report.sweeps.words import remarks, sweep_text

ACCURACY, RECALL, PRESERVED, SECONDS, DOWN, UP = (figure.name for figure in FIGURES)


def runs(values: dict[str, dict[int, float]], **others: float) -> pd.DataFrame:
    """Runs whose accuracy is given by arm and seed."""
    rows = [
        {
            "arm": arm, "seed": seed, "run": f"{arm}/seed{seed}", "rounds": 2,
            ACCURACY: value, RECALL: nan, PRESERVED: nan, SECONDS: 2.0 + seed, DOWN: 100.0,
            UP: 120.0, "preserved": nan, "relocated": nan, "degraded": nan, "collapsed": nan,
            **others,
        }
        for arm, seeds in values.items()
        for seed, value in seeds.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


MADE = {
    "base": {0: 0.50, 1: 0.60, 2: 0.70, 3: nan},
    "better": {0: 0.60, 1: 0.62, 2: 0.73, 3: 0.9},
    "worse": {0: 0.40, 1: 0.55, 4: 0.2},
}


def test_arms_have_mean_spread_and_number_of_what_is_defined() -> None:
    table = arms_table(runs(MADE), list(MADE)).set_index(["arm", "figure"])

    base = table.loc["base", ACCURACY]
    assert (base["mean"], base["sd"], base["n"]) == (pytest.approx(0.6), pytest.approx(0.1), 3)
    assert table.loc["worse", ACCURACY]["n"] == 3
    assert table.loc["base", RECALL]["n"] == 0
    assert isnan(table.loc["base", RECALL]["mean"])
    assert table.loc["better", SECONDS]["mean"] == 3.5


def test_differences_are_of_seeds_that_both_have() -> None:
    table = differences_table(runs(MADE), list(MADE)).set_index(["arm", "figure"])

    better = table.loc["better", ACCURACY]
    assert better["n"] == 3  # seed 3 is undefined in base
    assert better["mean"] == pytest.approx(np.mean([0.10, 0.02, 0.03]))
    assert 0.02 <= better["low"] < better["mean"] < better["high"] <= 0.10
    worse = table.loc["worse", ACCURACY]
    assert (worse["n"], worse["mean"]) == (2, pytest.approx(-0.075))  # seeds 0 and 1
    assert isnan(worse["low"])
    assert worse["note"] == "2 pairs: no interval below 3"
    assert table.loc["better", RECALL]["note"] == "no pair has it"
    assert table.loc["better", DOWN]["note"] == "all differences are the same: no interval"
    assert isnan(table.loc["better", SECONDS]["p"])  # costs are not tested
    assert better["p_holm"] == better["p"]  # the only test of this table


def test_p_values_are_adjusted_over_all_arms_and_outcomes() -> None:
    made = {"a": {0: 0.1, 1: 0.3, 2: 0.2}, "b": {0: 0.2, 1: 0.41, 2: 0.33},
            "c": {0: 0.2, 1: 0.2, 2: 0.5}}  # fmt: skip
    frame = runs(made)
    frame[RECALL] = frame[ACCURACY] ** 2

    table = differences_table(frame, list(made))

    tested = table[table["p"].notna()]
    assert set(zip(tested["arm"], tested["figure"], strict=True)) == {
        (arm, name) for arm in ("b", "c") for name in (ACCURACY, RECALL)
    }
    smallest = tested.sort_values("p").iloc[0]
    assert smallest["p_holm"] == pytest.approx(4 * smallest["p"])


def comparison(made: dict[str, dict[int, float]], **said: tuple[str, ...]) -> Compared:
    frame, arms = runs(made), list(made)
    sweep = Sweep(Path("s"), (0, 1, 2, 3), {arm: {} for arm in arms}, said.get("unpaired", ()))
    return Compared(
        sweep, frame, arms_table(frame, arms), differences_table(frame, arms),
        said.get("unfinished", ()), said.get("broken", ()),
    )  # fmt: skip


def test_the_text_says_what_is_not_defined_and_of_how_many_seeds() -> None:
    text = sweep_text(comparison(MADE, unfinished=("worse/seed2",), unpaired=("partition",)))

    assert "0.600 ± 0.100 (3 of 4 seeds)" in text
    assert "minus base" in text
    assert "not defined" in text
    assert "1 runs are not finished and left out: worse/seed2" in text
    assert "Arms differ in partition, as was asked for" in text
    assert "nan" not in text.lower()


def test_fewer_than_three_pairs_are_said_to_have_no_interval() -> None:
    two = {arm: {seed: v for seed, v in seeds.items() if seed < 2} for arm, seeds in MADE.items()}

    said = remarks(comparison(two, broken=("worse, seed 0: other partition than base",)))

    assert said == [
        "Not paired: worse, seed 0: other partition than base.",
        "Fewer than 3 pairs: no interval and no test.",
    ]


def test_one_arm_alone_has_no_differences() -> None:
    alone = comparison({"base": MADE["base"]})

    assert alone.differences.empty
    assert "minus" not in sweep_text(alone)
    assert remarks(alone) == []


def test_the_figure_has_a_panel_for_every_figure_that_is_there() -> None:
    picture = draw(comparison(MADE))

    shown = [axes.get_xlabel() for axes in picture.axes if axes.get_visible()]
    assert shown == [ACCURACY, SECONDS, DOWN, UP]
    dots = picture.axes[0].collections
    assert sum(len(one.get_offsets()) for one in dots) == 10  # all that are defined


def test_the_size_of_a_side_record_is_that_of_its_values() -> None:
    assert size_of({"masks": b"12345", "version": "0.1é", "counts": [1, 2, 3], "x": 0.5}) == (
        5 + 5 + 24 + 8
    )
