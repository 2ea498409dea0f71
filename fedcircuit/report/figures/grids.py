"""Grids for papers: recall of every class by round, and verdicts of every client and class."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Patch

from fedcircuit.records.runs import Run
from fedcircuit.report.figures.plots import Drawn, new_figure
from fedcircuit.report.tables import STATUSES, VERDICTS, Word
from fedcircuit.report.tables import counts as tables

_MOST_MARKED = 400  # cells; beyond it marks would be smaller than can be read
_MOST_TALL = 25  # rows; a taller grid with fewer columns is turned
UNDEFINED = Patch(facecolor="#f6f2ea", edgecolor="0.6", hatch="////", label="not defined")


def class_recall(run: Run) -> Drawn | None:
    """Recall of every class in the global model over rounds; undefined is hatched."""
    data = tables.class_recall(run)
    if data.empty:
        return None
    data = data.assign(class_name=[run.class_names[int(i)] for i in data["class"]])
    grid = data.pivot(index="class", columns="round", values="recall")
    figure, axes = new_figure(1.9 + 0.36 * max(grid.shape[1], 4), 1.3 + 0.24 * grid.shape[0])
    hatched(axes)
    sns.heatmap(
        grid,
        vmin=0,
        vmax=1,
        cmap=sns.light_palette("#123f6b", as_cmap=True),  # one hue, reads the same in grey
        annot=grid.size <= _MOST_MARKED,
        fmt=".2f",
        annot_kws={"size": 6.5},
        yticklabels=_class_names(run, grid.index),
        cbar_kws={"label": "recall"},
        ax=axes,
    )
    axes.set(ylabel="class", xlabel="round", title="Recall of each class in the global model")
    axes.tick_params(axis="y", rotation=0)
    axes.tick_params(axis="x", rotation=0)
    if grid.isna().to_numpy().any():
        figure.legend(handles=[UNDEFINED], loc="outside lower left", frameon=False)
    return figure, data


def verdicts(run: Run) -> Drawn | None:
    """Verdicts of the newest observed round, client by class, and why others have none."""
    data = tables.judged(run)
    if data.empty:
        return None
    data = data[data["round"] == data["round"].max()]
    data = data.assign(class_name=[run.class_names[int(i)] for i in data["class"]])
    words = [*VERDICTS, *STATUSES]
    codes = {word.name: float(index) for index, word in enumerate(words)}
    grid = data.assign(code=data["word"].map(codes)).pivot(
        index="client", columns="class", values="code"
    )
    grid = grid.loc[tables.natural_order([str(name) for name in grid.index])]
    grid.columns = pd.Index(_class_names(run, grid.columns), name="class")
    if len(grid) > _MOST_TALL and grid.shape[1] < len(grid):
        grid = grid.T
    figure, axes = new_figure(3.0 + 0.34 * min(grid.shape[1], 60), 1.4 + 0.3 * len(grid))
    _draw_verdicts(axes, grid, words)
    kept = int((data["verdict"] == "preserved").sum())
    axes.set_title(
        f"Averaging preserved {kept} of {int((data['status'] == 'valid').sum())} valid client "
        f"circuits, round {data['round'].max()}"
    )
    shown = [word for word in words if word.name in set(data["word"])]
    marks = [
        Patch(facecolor=word.colour, edgecolor="0.6", label=f"{word.symbol}  {_said(word)}")
        for word in shown
    ]
    if grid.isna().to_numpy().any():
        marks.append(UNDEFINED)
    axes.legend(handles=marks, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure, data


def _draw_verdicts(axes: Axes, grid: pd.DataFrame, words: list[Word]) -> None:
    hatched(axes)
    symbols = grid.map(lambda code: "" if pd.isna(code) else words[int(code)].symbol)
    sns.heatmap(
        grid,
        cmap=ListedColormap([word.colour for word in words]),
        norm=BoundaryNorm([i - 0.5 for i in range(len(words) + 1)], len(words)),
        annot=symbols if grid.size <= _MOST_MARKED else None,
        fmt="",
        cbar=False,
        linewidths=0.8 if grid.size <= _MOST_MARKED else 0.2,
        linecolor="white",
        ax=axes,
    )
    axes.tick_params(axis="y", rotation=0)
    is_long = max(len(str(name)) for name in grid.columns) > 3
    axes.tick_params(axis="x", rotation=45 if is_long else 0)
    if is_long:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def hatched(axes: Axes) -> None:
    """What no cell covers is undefined, and must not look like a number."""
    axes.set_facecolor("#f6f2ea")
    axes.patch.set(hatch="////", edgecolor="0.75")


def _class_names(run: Run, indices: pd.Index[int]) -> list[str]:
    # "$" would start a formula
    return [run.class_names[int(i)].replace("$", r"\$") for i in indices]


def _said(word: Word) -> str:
    return "valid, not judged" if word.name == "valid" else word.text
