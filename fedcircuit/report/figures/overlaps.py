"""Plots of overlap for papers: against chance by layer, and against other classes by class."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from fedcircuit.circuits.models import layer_title
from fedcircuit.records.runs import Run
from fedcircuit.report.figures.plots import (
    BLUE,
    GREY,
    ORANGE,
    Drawn,
    new_figure,
    new_picture,
    round_axis,
)
from fedcircuit.report.tables import counts as tables
from fedcircuit.report.tables import overlaps

GREEN = "#2c7a67"
LONGEST = 30  # letters above a panel


def overlap(run: Run) -> Drawn | None:
    """Mean IoU of valid client circuits with the global model's by layer, chance beside it."""
    data = overlaps.mean_overlap(run)
    if data.empty or not data["n"].sum():
        return None
    layers = list(dict.fromkeys(data["layer"]))
    columns = min(4, len(layers))
    n_rows = -(-len(layers) // columns)
    figure = new_picture(2.3 * columns + 0.7, 2.2 * n_rows + 0.7)
    grid = figure.subplots(n_rows, columns, sharey=True, squeeze=False)
    lowest = min(0.0, float(data["adjusted"].min())) - 0.02
    for axes, layer in zip(grid.flat, layers, strict=False):
        _layer(axes, data[data["layer"] == layer])
        axes.set_title(_heading(layer, str(data.loc[data["layer"] == layer, "path"].iloc[0])))
        axes.set_ylim(lowest, 1.03)
        round_axis(axes, data["round"])
    for axes in list(grid.flat)[len(layers) :]:
        axes.remove()
    for row in grid:
        row[0].set_ylabel("mean overlap")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(5, len(handles)), frameon=False
    )
    figure.suptitle(
        "Overlap of valid client circuits with the global model's, and what chance gives"
    )
    return figure, data


def _heading(layer: str, path: str) -> str:
    if layer == tables.ALL_LAYERS:
        return "all layers"
    title = layer_title(layer, path)
    return title if len(title) <= LONGEST else f"{layer}\n…{path[1 - LONGEST :]}"


def _layer(axes: Axes, rows: pd.DataFrame) -> None:
    rounds = rows["round"]
    marks = 3.5 if len(rows) <= 30 else 0
    axes.plot(rounds, rows["iou"], "o-", ms=marks, color=BLUE, label="IoU")
    axes.plot(rounds, rows["adjusted"], "s-", ms=marks, mfc="w", color=ORANGE, label="adjusted IoU")
    if rows["n_weighted"].any():
        axes.plot(rounds, rows["weighted"], "^-", ms=marks, color=GREEN, label="weighted IoU")
    axes.plot(rounds, rows["chance"], "--", lw=1, color=GREY, label="chance level of IoU")
    axes.fill_between(rounds, 0, rows["chance"], color=GREY, alpha=0.18, lw=0)


def class_swap(run: Run) -> Drawn | None:
    """Overlap of every class with itself and with the other classes, in the newest such round.

    None where no valid client circuit was compared with other classes.
    """
    mean = overlaps.mean_overlap(run)
    compared = mean.loc[(mean["n_swapped"] > 0) & (mean["layer"] == tables.ALL_LAYERS)]
    if compared.empty:
        return None
    last = compared.iloc[-1]
    data = overlaps.by_class(run, int(last["round"]))
    figure, axes = new_figure(6.4, 1.5 + min(0.21 * len(data), 14))
    places = np.arange(len(data))
    axes.hlines(places, data["swapped"], data["own"], color=GREY, alpha=0.35, lw=3, zorder=1)
    axes.plot(data["swapped"], places, "o", color=GREY, ms=4.5, label="other classes (mean)")
    axes.plot(
        data["swapped_max"], places, "|", color=GREY, ms=8, mew=1.8, label="closest other class"
    )
    axes.plot(data["own"], places, "D", color=ORANGE, ms=4.5, label="own class")
    for place in places[data["n"].eq(0).to_numpy()]:
        axes.text(0.01, place, "not defined", color=GREY, va="center", size="x-small")
    names = [str(name).replace("$", r"\$") for name in data["class_name"]]  # "$" starts a formula
    axes.set_yticks(places, names)
    axes.set_ylim(len(data) - 0.5, -0.5)
    lowest = float(np.nanmin(data[["own", "swapped", "swapped_max"]].to_numpy()))
    axes.set_xlim(min(-0.02, lowest - 0.03), 1.03)
    axes.axvline(0, color="0.7", lw=0.8, zorder=0)
    axes.set(
        ylabel="class", xlabel="mean adjusted IoU with the global model's circuits (0: chance)"
    )
    axes.set_title(
        f"{int(last['closest'])} of {int(last['n_swapped'])} valid client circuits are closest to "
        f"their own class, round {int(last['round'])}"
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    sns.despine(ax=axes)
    return figure, data
