"""The figure of a sweep: every run a dot, every arm its mean, one panel a figure."""

from __future__ import annotations

import seaborn as sns
from matplotlib.figure import Figure as Drawing

from fedcircuit.report.figures import BLUE, GREY, new_picture
from fedcircuit.report.sweeps.measures import FIGURES
from fedcircuit.report.sweeps.tables import Compared

_PANEL = 2.5  # inches across
_ROW = 0.32  # inches an arm


def draw(compared: Compared) -> Drawing:
    """Panels of all figures that any run has; runs of one seed are joined by a line."""
    arms = list(compared.sweep.arms)
    shown = [figure for figure in FIGURES if compared.runs[figure.name].notna().any()]
    picture = new_picture(_PANEL * max(len(shown), 1) + 1.0, _ROW * len(arms) + 1.2)
    panels = picture.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
    for axes, figure in zip(panels, shown, strict=False):
        data = compared.runs.assign(**{figure.name: compared.runs[figure.name].astype(float)})
        order = {arm: place for place, arm in enumerate(arms)}
        for _, rows in data.groupby("seed"):
            joined = rows.sort_values("arm", key=lambda names: names.map(order))
            axes.plot(
                joined[figure.name],
                joined["arm"].map(order),
                color=GREY,
                lw=0.6,
                alpha=0.6,
                zorder=0,
            )
        sns.stripplot(
            data, x=figure.name, y="arm", order=arms, jitter=False, color=BLUE, size=4, alpha=0.7,
            ax=axes,
        )  # fmt: skip
        means = data.groupby("arm")[figure.name].mean()
        axes.plot(
            [means.get(arm) for arm in arms], range(len(arms)), "|", color="0.1", ms=12, mew=2
        )
        axes.set(xlabel=figure.name, ylabel="")
        sns.despine(ax=axes)
    return picture
