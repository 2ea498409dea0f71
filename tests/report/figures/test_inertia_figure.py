"""Layer inertia as a figure for papers: the drawn numbers are those of its CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_inertia import WEIGHTS, Course, make_inertia_run
from matplotlib.figure import Figure

from fedcircuit.records.runs.run import Run
from fedcircuit.report.figures.inertia import inertia
from fedcircuit.report.figures.writing import paper_style, write_figures
from fedcircuit.report.tables.inertia import inertia_of_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_inertia_run(tmp_path_factory.mktemp("inertia") / "run")


def draw(run: Run) -> tuple[Figure, pd.DataFrame]:
    with paper_style():
        drawn = inertia(run)
    assert drawn is not None
    return drawn


def test_the_csv_has_all_measures_with_accuracy_and_index(run: Run) -> None:
    (path,) = [path for path in write_figures(run, formats=()) if path.stem == "inertia"]
    csv, found = pd.read_csv(path), inertia_of_run(run)
    measures = ["layer", "path", "u", "r", "drift", "cosine", "m", "kappa"]
    assert list(csv.columns) == ["round", *measures, "index", "start", "accuracy"]
    pd.testing.assert_frame_equal(csv[["round", *measures]], found.layers, check_exact=False)
    by_round = csv.groupby("round").first()
    np.testing.assert_allclose(by_round["accuracy"], [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(by_round["index"], found.index["index"])


def test_the_map_shows_the_relative_movement_of_the_weights(run: Run) -> None:
    figure, data = draw(run)
    line, heat, _, index = figure.axes
    assert [label.get_text() for label in heat.get_yticklabels()] == list(WEIGHTS)
    drawn = np.ma.filled(heat.collections[0].get_array(), np.nan).reshape(4, 5)
    expected = data.pivot(index="layer", columns="round", values="r").loc[list(WEIGHTS)].to_numpy()
    moved = expected > 0
    np.testing.assert_allclose(drawn[moved], expected[moved])
    low, high = heat.collections[0].norm.vmin, heat.collections[0].norm.vmax
    assert (low, high) == pytest.approx((expected[moved].min(), expected.max()))
    assert (drawn[~moved] < low).all()  # what did not move is below every number, in white
    np.testing.assert_allclose(line.get_lines()[0].get_ydata(), [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(
        index.get_lines()[0].get_ydata(), data.groupby("round")["index"].first()
    )
    assert line.get_xlim() == heat.get_xlim() == index.get_xlim() == (0, 5)
    assert line.get_lines()[0].get_xdata().tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["did not move"]
    assert line.get_title("left") == (
        "Movement of each weight tensor: inertia index below 0.5 in 100% of rounds"
    )


@pytest.mark.parametrize(
    "course",
    [
        Course(frozen=True),
        Course(rounds=1, accuracy=False, clients=0),
        Course(rounds=70, extra_layers=40, clients=1),
        Course(rounds=3, updates="none"),
    ],
)
def test_every_run_with_weights_can_be_drawn(course: Course, tmp_path: Path) -> None:
    run = make_inertia_run(tmp_path / "run", course)
    paths = write_figures(run, formats=("svg",))
    assert "inertia.svg" in {path.name for path in paths}
    texts = {text.get_text() for axes in draw(run)[0].axes for text in axes.texts}
    assert ("not measured" in texts) == (not course.accuracy)
    assert ("not defined" in texts) == course.frozen


def test_a_run_without_weights_has_no_such_figure(tmp_path: Path) -> None:
    assert inertia(make_inertia_run(tmp_path / "bias", Course(weights=False))) is None
    assert inertia(make_inertia_run(tmp_path / "begun", Course(rounds=0))) is None
