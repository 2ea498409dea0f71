"""Layer inertia for papers: relative movement by layer and round, accuracy above, index below."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from fedcircuit.analysis.inertia import INERT, share_inert
from fedcircuit.records.runs import Run
from fedcircuit.report.figures.grids import UNDEFINED, hatched
from fedcircuit.report.figures.plots import BLUE, GREY, ORANGE, Drawn, new_picture
from fedcircuit.report.tables import TOP_MOVEMENT, inertia_tables, weight_layers
from fedcircuit.report.tables import counts as tables

_MOST_TICKS = 15
STILL = Patch(facecolor="#ffffff", edgecolor="0.6", label="did not move")  # no logarithm


def inertia(run: Run) -> Drawn | None:
    """Relative movement of every weight tensor on a logarithmic scale; undefined is hatched.

    Beside it the accuracy of the global model and the inertia index over the same rounds. None
    where there is no weight tensor to draw. The CSV holds all measures of all layers.
    """
    found = inertia_tables(run)
    shown = [] if found is None else weight_layers(run, found)
    if found is None or not shown:
        return None
    data = found.layers.merge(found.index, on="round").merge(
        tables.accuracy(run)[["round", "accuracy"]], on="round", how="left"
    )
    grid = found.layers.pivot(index="layer", columns="round", values="r").loc[shown]
    width = 2.6 + min(0.36 * max(grid.shape[1], 8), 8.0)
    figure = new_picture(width, 3.2 + 0.22 * len(grid))
    heights = [1.1, 0.4 + 0.22 * len(grid), 1.1]
    panels = figure.subplots(
        3, 2, gridspec_kw={"height_ratios": heights, "width_ratios": [1, 0.025]}
    )
    for side in (panels[0, 1], panels[2, 1]):
        side.remove()
    by_round = data.drop_duplicates("round").set_index("round")
    by_round = by_round.loc[list(grid.columns), ["accuracy", "index"]]
    _line(panels[0, 0], by_round["accuracy"])
    panels[0, 0].set_title(_title(found.index["index"]))
    _map(panels[1, 0], panels[1, 1], grid)
    _line(panels[2, 0], by_round["index"])
    _index_marks(panels[2, 0], found.index["index"])
    if marks := [mark for mark, is_there in ((STILL, grid.eq(0)), (UNDEFINED, grid.isna()))
                 if is_there.to_numpy().any()]:  # fmt: skip
        figure.legend(handles=marks, loc="outside lower left", ncols=2, frameon=False)
    return figure, data


def _map(axes: Axes, bar: Axes, grid: pd.DataFrame) -> None:
    moved = grid.where(grid > 0).to_numpy(dtype=float)
    usual = moved[np.isfinite(moved) & (moved <= TOP_MOVEMENT)]
    low, high = (float(usual.min()), float(usual.max())) if len(usual) else (0.1, 1.0)
    low = low if low < high else high / 10  # one number only: the dark end
    colours = sns.light_palette("#123f6b", as_cmap=True)  # one hue, reads the same in grey
    hatched(axes)
    sns.heatmap(
        grid.clip(lower=low / 10),  # only so that the logarithm knows a zero as "below"
        norm=LogNorm(low, high),
        cmap=colours.with_extremes(under=STILL.get_facecolor()),
        cbar_ax=bar,
        cbar_kws={"label": "relative movement"},
        ax=axes,
    )
    beyond = (grid > TOP_MOVEMENT).to_numpy().any()  # a tensor that began at (almost) zero
    ends = [low, float(np.sqrt(low * high)), high]
    texts = [f"{value:.2g}" for value in ends]
    bar.set_yticks(ends, [*texts[:2], f"≥ {texts[2]}" if beyond else texts[2]])
    bar.yaxis.set_minor_locator(NullLocator())
    every = -(-grid.shape[1] // _MOST_TICKS)
    axes.set_xticks(np.arange(0, grid.shape[1], every) + 0.5, [])
    axes.tick_params(axis="y", rotation=0)
    axes.set(xlabel="", ylabel="")


def _line(axes: Axes, values: pd.Series[float]) -> None:
    """One number a round, over the middle of the round's column of the map."""
    rounds, is_accuracy = values.index, values.name == "accuracy"
    places = np.arange(len(rounds)) + 0.5
    colour = BLUE if is_accuracy else ORANGE
    axes.plot(places, values, "o-", ms=3 if len(rounds) <= 60 else 0, color=colour)
    every = -(-len(rounds) // _MOST_TICKS)
    axes.set_xlim(0, len(rounds))
    if is_accuracy:
        axes.set(ylim=(0, 1.03), ylabel="accuracy")
        axes.set_xticks(places[::every], [])
    else:
        axes.set(ylabel="inertia index", xlabel="round")
        axes.set_xticks(places[::every], [str(number) for number in rounds[::every]])
    if values.isna().all():
        axes.text(0.5, 0.5, "not measured" if is_accuracy else "not defined",
                  transform=axes.transAxes, color=GREY, ha="center", va="center")  # fmt: skip
    sns.despine(ax=axes)


def _index_marks(axes: Axes, values: pd.Series[float]) -> None:
    known = values[values > 0]
    low, high = min([0.25, *(known * 0.9)]), max([2.0, *(known * 1.1)])
    axes.set_yscale("log", base=2)
    axes.set_ylim(low, high)
    powers = [2.0**power for power in range(-20, 21) if low <= 2.0**power <= high]
    ticks = powers[:: -(-len(powers) // 6)] if len(powers) > 6 else powers
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.axhline(INERT, ls="--", lw=1, color=GREY, zorder=0)


def _title(values: pd.Series[float]) -> str:
    share = share_inert(float(value) for value in values)
    if not np.isfinite(share):
        return "Relative movement of each weight tensor; the inertia index is not defined"
    return f"Movement of each weight tensor: inertia index below {INERT:g} in {share:.0%} of rounds"
