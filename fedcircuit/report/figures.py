"""Seaborn figures of a run for papers, each with the data behind it as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fedcircuit.records.run import Run
from fedcircuit.report import tables
from fedcircuit.report.words import STATUSES, VERDICTS

FORMATS = ("svg", "pdf", "png")
Drawn = tuple[Figure, pd.DataFrame]


def write_figures(
    run: Run, folder: Path | None = None, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write every figure the run has data for, by default into its folder ``figures``.

    Raises
    ------
    ValueError
        If a format is unknown or the run has nothing to draw.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown figure formats {unknown}; known: {', '.join(FORMATS)}")
    target = run.path / "figures" if folder is None else folder
    drawings: dict[str, Callable[[Run], Drawn | None]] = {
        "accuracy": _accuracy,
        "class-recall": _recall,
        "overlap": _overlap,
        "verdicts": _verdicts,
        "function": _function,
        "sizes": _sizes,
    }
    written: list[Path] = []
    with _style():
        for name, draw in drawings.items():
            drawn = draw(run)
            if drawn is None:
                continue
            target.mkdir(parents=True, exist_ok=True)
            figure, data = drawn
            data.to_csv(target / f"{name}.csv", index=False)
            written.append(target / f"{name}.csv")
            for kind in formats:
                figure.savefig(target / f"{name}.{kind}", dpi=200, bbox_inches="tight")
                written.append(target / f"{name}.{kind}")
    if not written:
        raise ValueError(f"{run.path} has nothing to draw: no accuracy and no circuits recorded")
    return written


@contextmanager
def _style() -> Iterator[None]:
    """Seaborn's look for these figures only; nobody else's settings change."""
    look: dict[Any, Any] = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper", font_scale=1.1),
        "svg.fonttype": "none",
        "figure.constrained_layout.use": True,
    }
    with mpl.rc_context(look):
        yield


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _round_axis(axes: Axes) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    sns.despine(ax=axes)


def _accuracy(run: Run) -> Drawn | None:
    data = tables.accuracy(run)
    if data.empty:
        return None
    figure, axes = _figure(4.6, 3.0)
    sns.lineplot(data, x="round", y="accuracy", marker="o", color="#2b5d8a", ax=axes)
    axes.set(ylim=(0, 1), ylabel="accuracy", title="Accuracy of the global model")
    _round_axis(axes)
    return figure, data


def _recall(run: Run) -> Drawn | None:
    data = tables.class_recall(run)
    if data.empty:
        return None
    data = data.assign(class_name=[run.class_names[int(i)] for i in data["class"]])
    grid = data.pivot_table(index="class", columns="round", values="recall", dropna=False)
    figure, axes = _figure(1.6 + 0.42 * grid.shape[1], 1.2 + 0.28 * grid.shape[0])
    sns.heatmap(
        grid,
        vmin=0,
        vmax=1,
        cmap="cividis_r",
        annot=grid.size <= 200,
        fmt=".2f",
        annot_kws={"size": 7},
        yticklabels=[run.class_names[int(i)] for i in grid.index],
        cbar_kws={"label": "recall"},
        ax=axes,
    )
    axes.set(ylabel="class", xlabel="round", title="Recall of each class in the global model")
    axes.tick_params(axis="y", rotation=0)
    return figure, data


def _overlap(run: Run) -> Drawn | None:
    data = tables.mean_overlap(run)
    if data.empty:
        return None
    layers = list(dict.fromkeys(data["layer"]))
    figure = Figure(figsize=(2.5 * len(layers) + 0.6, 2.9))
    FigureCanvasAgg(figure)
    row = figure.subplots(1, len(layers), sharey=True, squeeze=False)[0]
    for axes, layer in zip(row, layers, strict=True):
        mine = data[data["layer"] == layer]
        axes.plot(mine["round"], mine["iou"], "o-", color="#2b5d8a", label="IoU")
        axes.plot(
            mine["round"], mine["adjusted"], "o-", mfc="w", color="#c26a1d", label="adjusted IoU"
        )
        axes.plot(mine["round"], mine["chance"], "--", color="0.45", label="chance level of IoU")
        axes.set_title("all layers" if layer == tables.ALL_LAYERS else f"layer {layer}")
        axes.set_ylim(min(0.0, float(data["adjusted"].min())) - 0.02, 1.02)
        _round_axis(axes)
    row[0].set_ylabel("local-global overlap")
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Circuits of clients against those of the average")
    return figure, data


def _verdicts(run: Run) -> Drawn | None:
    if not tables.has(run, "verdicts", "validity"):
        return None
    table = run.table("verdicts")
    status = tables.client_validity(run).rename(columns={"model": "client"})
    keys = ["round", "client", "class"]
    data = table.merge(status[[*keys, "status"]], on=keys)
    data = data[data["round"] == data["round"].max()]
    data = data.assign(word=data["verdict"].where(data["verdict"].notna(), data["status"]))
    words = [*VERDICTS, *STATUSES[1:]]
    codes = {word.name: index for index, word in enumerate(words)}
    grid = data.assign(code=data["word"].map(codes)).pivot(
        index="client", columns="class", values="code"
    )
    symbols = grid.map(lambda code: "" if pd.isna(code) else words[int(code)].symbol)
    figure, axes = _figure(2.4 + 0.42 * grid.shape[1], 1.6 + 0.34 * grid.shape[0])
    sns.heatmap(
        grid,
        cmap=ListedColormap([word.colour for word in words]),
        norm=BoundaryNorm([i - 0.5 for i in range(len(words) + 1)], len(words)),
        annot=symbols if grid.size <= 400 else None,
        fmt="",
        cbar=False,
        linewidths=0.8,
        linecolor="white",
        xticklabels=[run.class_names[int(i)] for i in grid.columns],
        ax=axes,
    )
    axes.set(xlabel="class", ylabel="client")
    axes.set_title(f"What averaging did to each client's circuits, round {data['round'].max()}")
    axes.tick_params(axis="y", rotation=0)
    marks = [
        Patch(facecolor=w.colour, edgecolor="0.6", label=f"{w.symbol} {w.name.replace('_', ' ')}")
        for w in words
    ]
    axes.legend(handles=marks, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    return figure, data


def _function(run: Run) -> Drawn | None:
    data = tables.functions(run)
    if data.empty:
        return None
    data = data[data["round"] == data["round"].max()]
    figure, axes = _figure(4.2, 3.8)
    present = [word for word in VERDICTS if word.name in set(data["verdict"])]
    shapes = {"preserved": "o", "relocated": "D", "degraded": "^", "collapsed": "X"}
    sns.scatterplot(
        data,
        x="own",
        y="in_global",
        hue="verdict",
        style="verdict",
        hue_order=[word.name for word in present],
        palette={word.name: word.colour for word in present},
        markers=shapes,
        s=70,
        edgecolor="0.2",
        ax=axes,
    )
    axes.plot([0.5, 1], [0.5, 1], ":", color="0.5", zorder=0)
    axes.set_xlabel("balanced accuracy in the client's own weights")
    axes.set_ylabel("inside the averaged weights")
    axes.set_title(f"Clients' valid circuits in the average, round {data['round'].max()}")
    sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), frameon=False, title=None)
    sns.despine(ax=axes)
    return figure, data


def _sizes(run: Run) -> Drawn | None:
    if not tables.has(run, "validity"):
        return None
    data = run.table("validity")[["round", "model", "class", "size", "status"]]
    data = data[data["size"].notna()]
    if data.empty:
        return None
    whose = data["model"].astype(str).eq(tables.GLOBAL)
    data = data.assign(whose=whose.map({True: "global model", False: "clients"}))
    figure, axes = _figure(4.6, 3.0)
    sns.lineplot(
        data,
        x="round",
        y="size",
        hue="whose",
        style="whose",
        markers=True,
        errorbar=("pi", 50),
        palette=["#2b5d8a", "#c26a1d"],
        ax=axes,
    )
    axes.set(ylabel="units", title="Circuit sizes: mean, and the middle half")
    axes.set_ylim(bottom=0)
    axes.legend(title=None, frameon=False)
    _round_axis(axes)
    return figure, data
