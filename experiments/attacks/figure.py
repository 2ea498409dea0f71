"""The figures of the runs that experiments/attacks/run.py made, from their folders alone.

    python experiments/attacks/figure.py runs/attacks --strategy fedmedian --out FOLDER

attacks-clients: every client of the last round under one strategy, how far it lies from the median
of the round's clients by each statistic, the threshold, and what it detects. attacks-auroc: AUROC
of bad against good clients, all strategies, rounds and seeds. Each with its data as CSV.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from judged import complete_runs, detection, judged_clients
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from suspicion import OF_CIRCUITS, SIDES

from fedcircuit.report.figures import paper_style

ATTACKS = {
    "sign-flip": "sign flip", "sign-flip-sparse": "sign flip, hidden", "scaled": "update x 10",
    "scaled-sparse": "update x 10, hidden", "label-flip": "all labels turned",
    "one-class": "one class relabelled",
}  # fmt: skip
SHOWN = ("sign-flip", "scaled", "label-flip", "one-class")  # client by client
NAMES = {
    "overlap": "overlap with others",
    "valid": "valid circuits",
    "carried": "works in the average",
    "norm": "norm of update",
    "cosine": "cosine with median",
    "zeros": "zero weights",
    "accuracy": "accuracy on probe",
}
GOOD, BAD = "#4878a8", "#d1491b"
FARTHEST = 25.0  # what lies beyond is drawn here


def main() -> None:
    """Write both figures and their data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strategy", default="fedmedian")
    parser.add_argument("--out", type=Path, help="default: the folder of the runs")
    options = parser.parse_args()
    out = options.out or options.folder
    out.mkdir(parents=True, exist_ok=True)
    rows = judged_clients(complete_runs(options.folder))
    rows = rows[rows["attack"].isin(["none", *ATTACKS])]
    areas = detection(rows[rows["n_bad"] > 0], ["attack", "n_bad"])
    of_one = rows[(rows["strategy"] == options.strategy) & (rows["round"] == rows["round"].max())]
    if of_one.empty:
        raise SystemExit(f"{options.folder} holds no runs of {options.strategy}")
    with paper_style():
        for name, figure, data in (
            ("attacks-clients", clients_figure(of_one), of_one),
            ("attacks-auroc", auroc_figure(areas), areas),
        ):
            data.to_csv(out / f"{name}.csv", index=False)
            figure.savefig(out / f"{name}.png", dpi=120)
            print(out / f"{name}.png")


def clients_figure(rows: pd.DataFrame) -> Figure:
    """A panel for each attack and number of bad clients, a lane for each statistic."""
    figure, axes = plt.subplots(2, 1 + len(SHOWN), figsize=(16, 6.6), sharex=True, sharey=True)
    _lanes(axes[0, 0], rows[rows["attack"] == "none"], "no attack")
    axes[0, 0].tick_params(labelbottom=True)
    _legend(axes[1, 0])
    for row, n_bad in enumerate((1, 3)):
        for column, attack in enumerate(SHOWN, start=1):
            here = rows[(rows["attack"] == attack) & (rows["n_bad"] == n_bad)]
            _lanes(axes[row, column], here, f"{ATTACKS[attack]}, {n_bad} of 10 bad")
    figure.supxlabel("robust standard deviations from the median of the round's clients, towards "
                     "the suspicious side", fontsize=11)  # fmt: skip
    return figure


def _lanes(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    rng = np.random.default_rng(0)
    axes.set_title(title)
    axes.set_xscale("symlog", linthresh=4, linscale=0.9)
    axes.set_xlim(-9, 30)
    axes.set_xticks([-4, 0, 4, 10, FARTHEST], ["-4", "0", "4", "", f"≥ {FARTHEST:.0f}"])
    axes.xaxis.set_minor_locator(NullLocator())
    for lane, statistic in enumerate(SIDES):
        of_lane = rows[rows["statistic"] == statistic]
        for bad, colour in ((False, GOOD), (True, BAD)):
            part = of_lane[of_lane["bad"] == bad]
            z = part["z"].dropna().clip(-8, FARTHEST)
            jitter = rng.uniform(-0.25, 0.25, len(z))
            axes.scatter(z, lane + jitter, s=10 + 6 * bad, color=colour, alpha=0.75, lw=0, zorder=3)
            if len(part):
                text = f"{part['flagged'].sum()}/{len(part)}"
                axes.text(1.02, lane + (-0.2 if bad else 0.2), text, color=colour, fontsize=8,
                          va="center", transform=axes.get_yaxis_transform())  # fmt: skip
        limit = of_lane["threshold"].median()
        if np.isfinite(limit):
            axes.plot([limit, limit], [lane - 0.42, lane + 0.42], color="black", lw=1.2, zorder=4)
    axes.axhline(len(OF_CIRCUITS) - 0.5, color="grey", lw=0.6, ls=":")
    axes.set_ylim(len(SIDES) - 0.5, -0.5)
    axes.set_yticks(range(len(SIDES)), [NAMES[statistic] for statistic in SIDES])


def _legend(axes: Axes) -> None:
    axes.axis("off")
    axes.scatter([], [], color=GOOD, s=14, label="good client")
    axes.scatter([], [], color=BAD, s=20, label="bad client")
    axes.plot([], [], color="black", lw=1.2, label="threshold, flagged to its right:\n"
              "at most 5 % of clean clients")  # fmt: skip
    axes.legend(loc="center", frameon=False, fontsize=9.5, alignment="left", title="numbers at the "
                "right: clients flagged,\nbad ones and good ones (false alarms)\nabove the dotted "
                "line: from circuits", title_fontsize=9.5)  # fmt: skip


def auroc_figure(areas: pd.DataFrame) -> Figure:
    """AUROC by statistic, attack and number of bad clients; 0.5 is chance."""
    columns = [(attack, n_bad) for attack in ATTACKS for n_bad in (1, 3)]
    grid = areas.pivot_table(index="statistic", columns=["attack", "n_bad"], values="auroc")
    grid = grid.reindex(index=list(SIDES), columns=pd.MultiIndex.from_tuples(columns))
    figure, axes = plt.subplots(figsize=(10.5, 4))
    sns.heatmap(grid.to_numpy(), ax=axes, annot=True, fmt=".2f", vmin=0, vmax=1,
                cmap="vlag", cbar_kws={"label": "AUROC, chance 0.5"})  # fmt: skip
    axes.set_xticks(np.arange(len(columns)) + 0.5,
                    [f"{ATTACKS[attack]}\n{n_bad} bad" for attack, n_bad in columns],
                    rotation=40, ha="right", fontsize=8)  # fmt: skip
    axes.set_yticks(np.arange(len(SIDES)) + 0.5, [NAMES[s] for s in SIDES], rotation=0)
    axes.axhline(len(OF_CIRCUITS), color="black", lw=1)
    return figure


if __name__ == "__main__":
    main()
