"""Figures for papers: each with its numbers, in every format, leaving no settings behind."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from made_up_runs import NAMES, Story, make_run
from matplotlib import pyplot as plt

from fedcircuit.records.runs.run import Run
from fedcircuit.report.figures import (
    grids as figure_grids,
)
from fedcircuit.report.figures import (
    overlaps as figure_overlaps,
)
from fedcircuit.report.figures import (
    plots as figure_plots,
)
from fedcircuit.report.figures.writing import FIGURES, FORMATS, paper_style, write_figures
from fedcircuit.report.tables import counts as tables


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("figures") / "run")


@pytest.fixture(scope="module")
def written(run: Run) -> list[Path]:
    return write_figures(run)


def test_every_figure_comes_in_every_format_with_its_csv(run: Run, written: list[Path]) -> None:
    names = set(FIGURES) - {"inertia", "information"}  # no weight tensors, not measured
    expected = {f"{name}.{kind}" for name in names for kind in ("csv", *FORMATS)}
    assert {path.name for path in written} == expected
    assert {path.parent for path in written} == {run.path / "figures"}
    starts = {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}
    for path in written:
        assert path.read_bytes().startswith(starts.get(path.suffix, b"round,"))


def test_the_csv_of_the_overlap_holds_the_means_of_the_run(run: Run, written: list[Path]) -> None:
    table = run.table("overlap")
    table = table[~((table["client"] == "2") & table["class"].isin([2, 3]))]  # not valid
    mean = table.groupby(["round", "layer"])[["iou", "chance", "adjusted"]].mean()
    csv = _csv(written, "overlap").set_index(["round", "layer"])
    pd.testing.assert_frame_equal(csv[["iou", "chance", "adjusted"]].sort_index(), mean)


def test_the_csv_of_the_verdicts_holds_every_cell_of_the_last_round(written: list[Path]) -> None:
    csv = _csv(written, "verdicts")
    assert set(csv["round"]) == {4}
    grid = csv.pivot(index="client", columns="class_name", values="word")[list(NAMES)]
    assert grid.to_numpy().tolist() == [
        ["preserved", "collapsed", "preserved", "preserved"],
        ["degraded", "collapsed", "preserved", "preserved"],
        ["preserved", "preserved", "undiscovered", "not_learned"],
    ]


def test_the_csvs_of_accuracy_and_recall_are_the_tables(run: Run, written: list[Path]) -> None:
    np.testing.assert_allclose(_csv(written, "accuracy")["accuracy"], [0.21, 0.22, 0.23, 0.24])
    csv = _csv(written, "class-recall")
    table = run.table("accuracy")
    np.testing.assert_allclose(csv["recall"], table.loc[table["class"] >= 0, "recall"])
    assert csv.loc[csv["class"] == 2, "recall"].isna().all()


def test_the_drawn_lines_are_the_numbers_of_the_csv(run: Run) -> None:
    with paper_style():
        drawn = figure_overlaps.overlap(run)
    assert drawn is not None
    figure, data = drawn
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "conv1", "conv2", "fc", "all layers",
    ]  # fmt: skip
    for axes, layer in zip(figure.axes, ["conv1", "conv2", "fc", "all"], strict=True):
        rows = data[data["layer"] == layer]
        lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
        np.testing.assert_array_equal(lines["IoU"], rows["iou"])
        np.testing.assert_array_equal(lines["adjusted IoU"], rows["adjusted"])
        np.testing.assert_array_equal(lines["chance level of IoU"], rows["chance"])
        np.testing.assert_array_equal(lines["weighted IoU"], rows["weighted"])
        assert rows["n_weighted"].tolist() == [9] * 4


def test_the_classes_are_drawn_at_the_numbers_of_their_csv(run: Run, written: list[Path]) -> None:
    drawn = figure_overlaps.class_swap(run)
    assert drawn is not None
    axes = drawn[0].axes[0]
    csv = _csv(written, "class-swap")
    assert set(csv["round"]) == {4}
    assert csv["class_name"].tolist() == list(NAMES)
    lines = {line.get_label(): line.get_xdata() for line in axes.get_lines()}
    np.testing.assert_allclose(lines["own class"], csv["own"])
    np.testing.assert_allclose(lines["other classes (mean)"], csv["swapped"])
    np.testing.assert_allclose(lines["closest other class"], csv["swapped_max"])
    swap = run.table("class_swap").merge(run.table("overlap"))
    swap = swap[(swap["round"] == 4) & (swap["layer"] == "all")]
    swap = swap[~((swap["client"] == "2") & swap["class"].isin([2, 3]))]
    np.testing.assert_allclose(csv["own"], swap.groupby("class")["adjusted"].mean())
    closest = (swap["adjusted"] > swap["swapped_max"]).sum()
    assert axes.get_title().startswith(f"{closest} of 10 valid client circuits")


def test_a_class_without_a_circuit_is_said_to_be_undefined(tmp_path: Path) -> None:
    class Unfound(Story):
        def word(self, client: int, index: int, number: int) -> str:
            return "undiscovered" if index == 2 else super().word(client, index, number)

    drawn = figure_overlaps.class_swap(make_run(tmp_path / "run", Unfound()))
    assert drawn is not None
    (text,) = drawn[0].axes[0].texts
    assert (text.get_text(), text.get_position()[1]) == ("not defined", 2)


def test_a_run_recorded_without_the_newer_overlaps_is_drawn_without_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Story(measured_from=99))
    names = {path.stem for path in write_figures(run, formats=("svg",))}
    assert names == set(FIGURES) - {"class-swap", "inertia", "information"}
    drawn = figure_overlaps.overlap(run)
    assert drawn is not None
    labels = {str(line.get_label()) for axes in drawn[0].axes for line in axes.get_lines()}
    assert labels == {"IoU", "adjusted IoU", "chance level of IoU"}


def test_the_points_of_the_function_plot_are_the_numbers(run: Run) -> None:
    drawn = figure_plots.function(run)
    assert drawn is not None
    figure, data = drawn
    (points,) = figure.axes[0].collections
    expected = data[["own", "in_global"]].to_numpy()
    np.testing.assert_allclose(np.ma.getdata(points.get_offsets()), expected)
    assert len(data) == 10


def test_the_verdict_grid_has_the_words_of_its_cells(run: Run) -> None:
    drawn = figure_grids.verdicts(run)
    assert drawn is not None
    axes = drawn[0].axes[0]
    symbols = [text.get_text() for text in axes.texts]
    assert symbols == ["●", "✖", "●", "●", "▲", "✖", "●", "●", "●", "●", "?", "–"]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(NAMES)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text().split("  ")[1] for text in legend.get_texts()] == [
        "preserved", "degraded", "collapsed", "undiscovered", "not learned",
    ]  # fmt: skip
    assert axes.get_title().startswith("Averaging preserved 7 of 10 valid")


def test_a_tall_grid_is_turned_and_its_clients_stay_in_order(tmp_path: Path) -> None:
    drawn = figure_grids.verdicts(make_run(tmp_path / "run", Story(clients=30, rounds=1)))
    assert drawn is not None
    axes = drawn[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("client", "class")
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    ticks = [int(label.get_text()) for label in axes.get_xticklabels()]
    assert ticks == sorted(ticks)


def test_sizes_count_the_units_of_the_circuits(run: Run, written: list[Path]) -> None:
    csv = _csv(written, "sizes")
    assert len(csv) == 4 * 4 * 4
    stack = run.masks(3)
    assert stack is not None
    of_round = csv[csv["round"] == 3]
    assert of_round["size"].tolist() == stack.masks.sum(-1).flatten().tolist()
    assert set(csv["whose"]) == {"clients", "global model"}


def test_no_settings_and_no_figure_are_left_behind(run: Run, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    open_figures = plt.get_fignums()
    write_figures(run, tmp_path, formats=("png",))
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == open_figures


def test_the_same_run_gives_the_same_files(run: Run, written: list[Path], tmp_path: Path) -> None:
    first = [path for path in written if path.suffix != ".png"]
    second = write_figures(run, tmp_path, formats=("svg", "pdf"))
    assert [p.name for p in first] == [p.name for p in second]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_run_without_circuits_has_accuracy_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Story(circuits=False))
    names = [path.name for path in write_figures(run, formats=())]
    assert names == ["accuracy.csv", "class-recall.csv"]


def test_a_run_in_which_nothing_is_valid_can_be_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Story(none_valid=True))
    names = {path.stem for path in write_figures(run, formats=("png",))}
    assert names == {"accuracy", "class-recall", "verdicts", "sizes"}  # no overlap, no function


def test_a_run_with_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Story(circuits=False, accuracy=False))
    with pytest.raises(ValueError, match="nothing to draw"):
        write_figures(run)
    assert not (run.path / "figures").exists()


def test_an_unknown_format_is_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown figure formats \['jpg'\]; known: svg, pdf, png"):
        write_figures(run, tmp_path / "new", formats=("svg", "jpg"))
    assert not (tmp_path / "new").exists()


def test_the_heat_map_reads_in_grey() -> None:
    # luminance falls all the way from 0 to 1, so order survives a black and white printer
    import seaborn as sns

    colours = sns.light_palette("#123f6b", as_cmap=True)(np.linspace(0, 1, 50))[:, :3]
    luminance = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) < 0).all()


def _csv(written: list[Path], name: str) -> pd.DataFrame:
    (path,) = [path for path in written if path.name == f"{name}.csv"]
    return pd.read_csv(io.StringIO(path.read_text(encoding="utf-8")))


def test_the_shared_tables_are_not_changed_by_drawing(run: Run) -> None:
    before = {name: run.table(name) for name in run.table_names}
    for draw in FIGURES.values():
        draw(run)
    for name, table in before.items():
        pd.testing.assert_frame_equal(tables.frame(run, name), table)
