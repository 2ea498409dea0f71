"""The figure of the information plane: the drawn numbers are those of its CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_information import Course, inputs_of, labels_of, make_information_run
from made_up_runs import Story, make_run
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fedcircuit.records.runs.run import Run
from fedcircuit.report.figures.information import information
from fedcircuit.report.figures.writing import paper_style, write_figures

COURSE = Course(rounds=6, undefined=(3,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_information_run(tmp_path_factory.mktemp("information") / "run", COURSE)


def draw(run: Run) -> tuple[Figure, pd.DataFrame]:
    with paper_style():
        drawn = information(run)
    assert drawn is not None
    return drawn


def points(axes: Axes) -> list[tuple[float, float, bool]]:
    """Place of every point of a plane, and whether it is hollow; the average comes first."""
    marks = [line for line in axes.get_lines() if line.get_marker() == "o"]
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]),
         to_rgb(line.get_markerfacecolor()) == (1, 1, 1))
        for line in marks
    ]  # fmt: skip


def test_the_csv_has_the_average_and_the_mean_of_clients(run: Run) -> None:
    (path,) = [path for path in write_figures(run, formats=()) if path.stem == "information"]
    csv = pd.read_csv(path)
    table = run.table("information")
    expected = table[table["model"].isin(["global", "mean of clients"])].reset_index(drop=True)
    assert list(csv.columns) == list(table.columns)
    np.testing.assert_allclose(csv["value"], expected["value"])
    assert csv["layer"].tolist() == expected["layer"].tolist()


def test_every_layer_is_a_plane_with_its_gaps_below(run: Run) -> None:
    figure, _ = draw(run)
    planes, first, second = figure.axes[:3], figure.axes[3:6], figure.axes[6:9]
    assert [axes.get_title("left") for axes in planes] == ["fc0", "fc1", "fc2"]
    for layer, axes in enumerate(planes):
        found = np.array([point[:2] for point in points(axes)])
        expected = [
            (
                inputs_of(COURSE, layer, n, average=average),
                labels_of(COURSE, layer, n, average=average),
            )
            for average in (True, False)
            for n in range(1, 7)
        ]
        np.testing.assert_allclose(found, expected)
    hollow = [[point[2] for point in points(axes)] for axes in planes]
    assert hollow == [[True] * 12, [False] * 12, [False] * 12]
    for axes, gap in zip(first, (0.0, 0.5, 0.5), strict=True):
        values = axes.get_lines()[1].get_ydata()
        np.testing.assert_allclose(values[[0, 1, 3, 4, 5]], gap, atol=1e-9)
    assert np.isnan(first[2].get_lines()[1].get_ydata()[2])
    for axes in second:
        np.testing.assert_allclose(axes.get_lines()[1].get_ydata(), 0.25)
    assert len({axes.get_xlim() for axes in planes}) == 1


def test_no_point_lies_outside_its_axes(run: Run) -> None:
    for axes in draw(run)[0].axes:
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        for line in axes.get_lines()[1:]:
            x, y = (np.asarray(values, dtype=float) for values in line.get_data())
            if len(x) == 6:
                assert (x >= left).all()
                assert (x <= right).all()
                assert np.all(np.isnan(y) | ((y >= low) & (y <= high)))


def test_estimator_setting_unit_and_accuracy_stand_beside_it(run: Run) -> None:
    figure, _ = draw(run)
    assert figure.get_suptitle() == (
        "I(X;T): upper bound of Kolchinsky and Tracey "
        "(noise variance 0.01 to 0.06 = 0.1^2 x mean unit variance)\n"
        "I(T;Y): held-out linear probe (5 folds)\nin bits, from 512 samples"
    )
    accuracy = figure.axes[-1]
    assert accuracy.get_ylabel() == "accuracy"
    average, clients = (line.get_ydata() for line in accuracy.get_lines())
    np.testing.assert_allclose(average, [0.375 + n / 12 for n in range(1, 7)])
    np.testing.assert_allclose(clients, [0.25 + n / 12 for n in range(1, 7)])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "the average, early light, late dark", "mean of clients, early light, late dark",
        "saturated", "logarithm of 512 samples",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "course",
    [
        Course(rounds=1, clients=0, bounds=False),
        Course(rounds=2, layers=1),
        Course(rounds=2, layers=2, undefined=(1, 2)),
        Course(rounds=100, layers=12, looked_at=(1, 2, 5, 10, 20, 50, 100)),
    ],
)
def test_every_measured_run_can_be_drawn(course: Course, tmp_path: Path) -> None:
    run = make_information_run(tmp_path / "run", course)
    paths = write_figures(run, formats=("svg",))
    assert "information.svg" in {path.name for path in paths}
    figure, _ = draw(run)
    layers = min(course.layers, 5)
    assert len(figure.axes) == layers * (3 if course.clients else 1) + 1
    scale = "log" if course.rounds == 100 else "linear"
    assert figure.axes[-1].get_xscale() == scale


def test_a_run_that_was_not_measured_has_no_such_figure(tmp_path: Path) -> None:
    assert information(make_run(tmp_path / "story", Story(rounds=1))) is None
