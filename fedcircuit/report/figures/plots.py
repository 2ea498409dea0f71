"""Plots for papers: accuracy, function at home and in the average, sizes.

A drawing takes a run and gives the figure and the frame that is in it, or None without data.
"""

from __future__ import annotations

import io

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedcircuit.records.runs import Run
from fedcircuit.report.tables import VERDICTS
from fedcircuit.report.tables import counts as tables

Drawn = tuple[Figure, pd.DataFrame]
BLUE, ORANGE, GREY = "#245a8c", "#b85c12", "#8a8478"
SHAPES = {"preserved": "o", "relocated": "D", "degraded": "^", "collapsed": "X", "not judged": "o"}


class Picture(Figure):
    """A figure that pyplot does not know, so that nothing is left to be closed.

    A notebook shows it nevertheless.
    """

    def _repr_png_(self) -> bytes:
        held = io.BytesIO()
        self.savefig(held, format="png", dpi=100, bbox_inches="tight")
        return held.getvalue()


def new_picture(width: float, height: float) -> Picture:
    """An empty figure of these inches."""
    figure = Picture(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of these inches with one pair of axes."""
    figure = new_picture(width, height)
    return figure, figure.subplots()


def round_axis(axes: Axes, rounds: pd.Series[int]) -> None:
    """Whole rounds on the x axis."""
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(int(rounds.min()) - 0.5, int(rounds.max()) + 0.5)  # no round 0 on the axis
    sns.despine(ax=axes)


def accuracy(run: Run) -> Drawn | None:
    """Accuracy of the global model over rounds."""
    data = tables.accuracy(run)
    if data.empty:
        return None
    figure, axes = new_figure(4.6, 3.0)
    sns.lineplot(data, x="round", y="accuracy", marker="o", color=BLUE, ax=axes)
    last = data.iloc[-1]
    title = f"Accuracy of the global model: {last['accuracy']:.2f} in round {int(last['round'])}"
    axes.set(ylim=(0, 1.03), ylabel=f"accuracy ({data['source'].iloc[0]})", title=title)
    round_axis(axes, data["round"])
    return figure, data


def function(run: Run) -> Drawn | None:
    """Each valid client circuit of the newest round, at home against in the average."""
    data = tables.functions(run)
    if data.empty:
        return None
    data = data[data["round"] == data["round"].max()]
    data = data.assign(
        class_name=[run.class_names[int(i)] for i in data["class"]],
        verdict=data["verdict"].where(data["verdict"].notna(), "not judged"),
    )
    colours = {**{word.name: word.colour for word in VERDICTS}, "not judged": "#ffffff"}
    present = [name for name in colours if name in set(data["verdict"])]
    figure, axes = new_figure(5.2, 3.9)
    sns.scatterplot(
        data,
        x="own",
        y="in_global",
        hue="verdict",
        style="verdict",
        hue_order=present,
        style_order=present,
        palette={name: colours[name] for name in present},
        markers={name: SHAPES[name] for name in present},
        s=60 if len(data) <= 60 else 25,
        edgecolor="0.2",
        ax=axes,
    )
    lowest = min(0.45, float(data[["own", "in_global"]].min().min()) - 0.03)
    axes.plot([0, 1], [0, 1], ":", color="0.5", zorder=0)
    axes.axhline(0.5, ls="--", lw=1, color=GREY, zorder=0)
    axes.set(xlim=(lowest, 1.03), ylim=(lowest, 1.03), aspect="equal")
    axes.set_xlabel("balanced accuracy in the client's own weights")
    axes.set_ylabel("inside the averaged weights")
    axes.set_title(f"Valid client circuits in the average, round {data['round'].max()}")
    sns.move_legend(axes, "upper left", bbox_to_anchor=(1.02, 1), frameon=False, title=None)
    sns.despine(ax=axes)
    return figure, data


def sizes(run: Run) -> Drawn | None:
    """Sizes of all circuits found, of clients and of the global model, over rounds."""
    data = tables.sizes(run)
    if data.empty:
        return None
    whose = data["model"].astype(str).eq(tables.GLOBAL)
    data = data.assign(whose=whose.map({True: "global model", False: "clients"}))
    order = ["clients", "global model"]
    figure, axes = new_figure(4.6, 3.0)
    sns.lineplot(
        data,
        x="round",
        y="size",
        hue="whose",
        style="whose",
        hue_order=order,
        style_order=order,
        markers=["o", "s"],
        errorbar=("pi", 50),
        palette=[BLUE, ORANGE],
        ax=axes,
    )
    axes.set(ylabel="units in a circuit", title="Sizes of the circuits found: mean and middle half")
    axes.set_ylim(bottom=0)
    axes.legend(title=None, frameon=False)
    round_axis(axes, data["round"])
    return figure, data
