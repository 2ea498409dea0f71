"""The figure of a sweep: every run a dot, every arm its mean, one panel a figure."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from fedcircuit.report.figures import BLUE, GREY, new_picture
from fedcircuit.report.sweeps.measures import FIGURES, Figure
from fedcircuit.report.sweeps.tables import Compared

_PANEL = 2.6  # inches across
_ROW = 0.3  # inches an arm
_ACROSS = 3  # panels beside each other


def draw(compared: Compared) -> Drawing:
    """Panels of all figures that any run has; runs of one seed are joined by a line."""
    arms = list(compared.sweep.arms)
    shown = [figure for figure in FIGURES if compared.runs[figure.name].notna().any()]
    down = max(1, -(-len(shown) // _ACROSS))
    picture = new_picture(_PANEL * _ACROSS + 1.0, (_ROW * len(arms) + 1.0) * down)
    panels = picture.subplots(down, _ACROSS, sharey=True, squeeze=False).flatten()
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes, figure in zip(panels, shown, strict=False):
        _panel(axes, compared.runs, figure, arms)
    return picture


def _panel(axes: Axes, runs: pd.DataFrame, figure: Figure, arms: Sequence[str]) -> None:
    """One figure: seeds joined, arms down."""
    data = runs.assign(**{figure.name: runs[figure.name].astype(float)})
    order = {arm: place for place, arm in enumerate(arms)}
    for _, rows in data.groupby("seed"):
        joined = rows.sort_values("arm", key=lambda names: names.map(order))
        places = joined["arm"].map(order)
        axes.plot(joined[figure.name], places, color=GREY, lw=0.6, alpha=0.6, zorder=0)
    sns.stripplot(
        data,
        x=figure.name,
        y="arm",
        order=arms,
        jitter=False,
        color=BLUE,
        size=4,
        alpha=0.7,
        ax=axes,
    )
    means = [float(data.loc[data["arm"] == arm, figure.name].mean()) for arm in arms]
    axes.plot(means, range(len(arms)), "|", color="0.1", ms=12, mew=2)
    axes.set(xlabel=figure.name, ylabel="")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.margins(y=0.25 / max(len(arms) - 1, 1))
    if figure.tested:  # shares
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -0.03), min(high, 1.03))
    sns.despine(ax=axes)
