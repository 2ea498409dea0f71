"""The information plane for papers: each layer's path, the gaps, and the accuracy beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from fedcircuit.circuits.models import layer_title
from fedcircuit.records.runs import Run
from fedcircuit.report.figures.plots import BLUE, GREY, ORANGE, Drawn, new_picture
from fedcircuit.report.tables import (
    MODELS,
    QUANTITIES,
    accuracies,
    by_layer,
    ceiling,
    curves,
    estimator_name,
    estimators,
    evenly,
    gaps,
    is_logarithmic,
    settings_of,
)

MOST_LAYERS = 5  # columns; of more layers evenly spaced ones are drawn, and all are in the CSV
LONGEST = 26  # letters of a layer's name
LEAST_GAP = 0.05  # span of an axis of gaps, in the unit of the estimates
GREEN = "#2c7a67"
COLOURS = dict(zip(MODELS, (BLUE, ORANGE), strict=True))
NAMES = dict(zip(MODELS, ("the average", "mean of clients"), strict=True))
LEAST = {QUANTITIES[0]: 0.1, QUANTITIES[1]: 0.02}  # of log n: less would show noise as movement
Estimate = tuple[str, str]  # quantity and estimator


def information(run: Run) -> Drawn | None:
    """The plane of every layer with its gaps below, and the accuracy on the same samples.

    Rounds go from light to dark; saturated points are hollow. Of two bounds on I(X;T) the upper
    one is drawn. None where nothing was measured. The CSV holds all rows of the average and of the
    mean of clients, of all layers and estimators.
    """
    table = curves(run)
    if table is None:
        return None
    names = {quantity: estimators(table, quantity) for quantity in QUANTITIES}
    if not all(names.values()):
        return None
    chosen = [(quantity, names[quantity][0]) for quantity in QUANTITIES]
    layers = evenly(list(dict.fromkeys(table["layer"])), MOST_LAYERS)
    drawn_gaps = [gaps(table, estimate).loc[layers] for estimate in chosen]
    if not any(wide.notna().any(axis=None) for wide in drawn_gaps):
        drawn_gaps = []  # no clients
    columns = max(2, len(layers))
    heights = [2.6, *([1.0] * len(drawn_gaps)), 1.3]
    figure = new_picture(1.0 + 2.1 * columns, 1.0 + 1.05 * sum(heights))
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    for row in range(len(heights) - 1):
        shared: Axes | None = None
        for column, layer in enumerate(layers):
            axes = figure.add_subplot(grid[row, column], sharex=shared, sharey=shared)
            if row:
                _gap(axes, drawn_gaps[row - 1], layer, table, chosen[row - 1])
            else:
                _plane(axes, table, layer, chosen)
            if shared is not None:
                axes.tick_params(labelleft=False)
                axes.set_ylabel("")
            shared = shared or axes
    _accuracy(figure.add_subplot(grid[-1, :2]), table)
    figure.legend(handles=_marks(table), loc="outside lower left", ncols=3, frameon=False)
    figure.suptitle(_title(table, chosen), x=0.01, ha="left", fontsize="small")
    return figure, table


def _plane(axes: Axes, table: pd.DataFrame, layer: str, chosen: list[Estimate]) -> None:
    for model in MODELS:
        x, y = (by_layer(table, model, e).astype(float).loc[layer].to_numpy() for e in chosen)
        hollow = _flags(table, layer, chosen, [model])
        palette = sns.light_palette(COLOURS[model], as_cmap=True)
        shades = palette(np.linspace(0.3, 1.0, len(x)) if len(x) > 1 else np.ones(1))
        for at, shade in enumerate(shades):  # late rounds above early ones, of either model
            last = slice(max(0, at - 1), at + 1)
            axes.plot(x[last], y[last], color=shade, lw=1, zorder=2)
            face = "white" if hollow[at] else shade
            axes.plot(x[at], y[at], "o", ms=3.8, mfc=face, mec=shade, zorder=3 + at / len(x))
    top = ceiling(table)
    for quantity, estimator in chosen:
        _room(axes, table, (quantity, estimator), top)
    axes.axvline(top, ls="--", lw=1, color=GREY, zorder=0)
    unit = table["unit"].iloc[0]
    title = layer_title(layer, str(table.loc[table["layer"] == layer, "path"].iloc[0]))
    title = title if len(title) <= LONGEST else f"…{title[1 - LONGEST :]}"
    axes.set(title=title, xlabel=f"I(X;T), {unit}", ylabel=f"I(T;Y), {unit}")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    sns.despine(ax=axes)


def _room(axes: Axes, table: pd.DataFrame, estimate: Estimate, top: float) -> None:
    """Limits over all layers, not narrower than a share of the ceiling."""
    rows = table[(table["quantity"] == estimate[0]) & (table["estimator"] == estimate[1])]
    values = rows["value"].dropna()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, top)
    least = LEAST[estimate[0]] * top
    if estimate[0] == QUANTITIES[0]:
        low = min(low, high - least)
        pad = 0.08 * (high - low)
        axes.set_xlim(low - pad, high + pad)
    else:
        middle, half = (low + high) / 2, max(high - low, least) / 2
        axes.set_ylim(middle - 1.12 * half, middle + 1.12 * half)


def _flags(
    table: pd.DataFrame, layer: str, chosen: Sequence[Estimate], models: Sequence[str]
) -> list[bool]:
    """By round, whether one of the estimates is saturated in one of the models."""
    found = [by_layer(table, m, e, "saturated").loc[layer] for m in models for e in chosen]
    return [any(cell == 1 for cell in cells) for cells in zip(*found, strict=True)]


def _gap(
    axes: Axes, wide: pd.DataFrame, layer: str, table: pd.DataFrame, estimate: Estimate
) -> None:
    """One layer's gap over rounds, on an axis for all layers."""
    rounds, values = [int(number) for number in wide.columns], wide.loc[layer].to_numpy()
    hollow = _flags(table, layer, [estimate], MODELS)
    faces = ["white" if is_hollow else GREEN for is_hollow in hollow]
    axes.axhline(0, lw=0.8, color=GREY, zorder=0)
    axes.plot(rounds, values, color=GREEN, lw=1)
    axes.scatter(rounds, values, s=9, c=faces, edgecolors=GREEN, linewidths=0.9, zorder=3)
    _rounds(axes, rounds)
    low, high = min(0.0, float(wide.min().min())), max(0.0, float(wide.max().max()))
    room = max(0.12 * (high - low), (LEAST_GAP - (high - low)) / 2)  # noise is no gap
    axes.set(ylim=(low - room, high + room), ylabel=f"Δ{estimate[0]}")
    axes.set_xlabel("round" if estimate[0] == QUANTITIES[1] else "")


def _accuracy(axes: Axes, table: pd.DataFrame) -> None:
    known = accuracies(table)
    rounds = [int(number) for number in known.index]
    for model in MODELS:
        axes.plot(rounds, known[model], "o-", ms=2.5, lw=1.2, color=COLOURS[model])
    _rounds(axes, rounds)
    axes.set(ylim=(0, 1.03), ylabel="accuracy", xlabel="round")
    axes.set_title("Accuracy on the same samples")


def _rounds(axes: Axes, rounds: list[int]) -> None:
    if is_logarithmic(rounds):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    sns.despine(ax=axes)


def _marks(table: pd.DataFrame) -> list[Line2D]:
    there = [model for model in MODELS if (table["model"] == model).any()]
    marks = [
        Line2D([], [], color=COLOURS[model], marker="o", ms=4, lw=1,
               label=f"{NAMES[model]}, early light, late dark")
        for model in there
    ]  # fmt: skip
    if table["saturated"].astype(bool).any():
        marks.append(Line2D([], [], color=GREY, marker="o", mfc="white", ls="", label="saturated"))
    text = f"logarithm of {int(table['n'].max())} samples"
    return [*marks, Line2D([], [], color=GREY, ls="--", lw=1, label=text)]


def _title(table: pd.DataFrame, chosen: list[Estimate]) -> str:
    """Estimators and settings in words: a value without them says nothing."""
    lines = []
    for quantity, estimator in chosen:
        setting = settings_of(table, (quantity, estimator))
        words = estimator_name(estimator) + (f" ({setting})" if setting else "")
        lines.append(f"{quantity}: {words}")
    return "\n".join([*lines, f"in {table['unit'].iloc[0]}, from {int(table['n'].max())} samples"])
