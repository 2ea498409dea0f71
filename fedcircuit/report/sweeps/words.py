"""A sweep's numbers as people read them, on a terminal and on the page."""

from __future__ import annotations

from math import isfinite

import pandas as pd

from fedcircuit.report.sweeps.measures import FIGURES, Figure
from fedcircuit.report.sweeps.statistics import FEWEST
from fedcircuit.report.sweeps.tables import Compared

NOT_DEFINED = "not defined"


def number(value: float, digits: int, *, sign: bool = False) -> str:
    """``0.512`` or ``+0.512``; thousands are grouped, an undefined number is said to be."""
    if not isfinite(value):
        return NOT_DEFINED
    return f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"


def mean_text(compared: Compared, arm: str, figure: Figure) -> str:
    """``0.512 ± 0.030``, and of how many seeds where not of all."""
    mean, sd, n = _row(compared.arms, arm, figure)[["mean", "sd", "n"]]
    text = number(mean, figure.digits)
    text += f" ± {number(sd, figure.digits)}" if isfinite(sd) else ""
    of = len(compared.sweep.seeds)
    return text if n in (0, of) else f"{text} ({n} of {of} seeds)"


def difference_text(compared: Compared, arm: str, figure: Figure) -> str:
    """``+0.020 [+0.010, +0.031], p 0.012``; without what is not defined. Empty for the first."""
    if arm == compared.first:
        return ""
    row = _row(compared.differences, arm, figure)
    if not isfinite(row["mean"]):
        return NOT_DEFINED
    text = number(row["mean"], figure.digits, sign=True)
    if isfinite(row["low"]):
        low, high = (number(row[end], figure.digits, sign=True) for end in ("low", "high"))
        text += f" [{low}, {high}]"
    return f"{text}, p {row['p_holm']:.3f}" if isfinite(row["p_holm"]) else text


def _row(table: pd.DataFrame, arm: str, figure: Figure) -> pd.Series:
    chosen = table[(table["arm"] == arm) & (table["figure"] == figure.name)]
    return chosen.iloc[0]


def remarks(compared: Compared) -> list[str]:
    """What a reader must know beside the numbers."""
    said = []
    if compared.unfinished:
        said.append(
            f"{len(compared.unfinished)} runs are not finished and left out: "
            + ", ".join(compared.unfinished[:6])
            + (" ..." if len(compared.unfinished) > 6 else "")
        )
    if compared.sweep.unpaired:
        said.append(
            f"Arms differ in {', '.join(compared.sweep.unpaired)}, as was asked for: of these "
            "runs of one seed share no more than the seed."
        )
    said += [f"Not paired: {words}." for words in compared.broken]
    if len(compared.sweep.arms) > 1:
        few = int(compared.differences["n"].max()) < FEWEST
        said.append(
            f"Fewer than {FEWEST} pairs: no interval and no test."
            if few
            else "Differences are seed by seed to the first arm: mean, 95 % BCa bootstrap interval "
            "in brackets, and p of a paired t test adjusted by Holm over all tests of the table. "
            "With few seeds an interval is rough."
        )
    return said


def sweep_text(compared: Compared) -> str:
    """The table for a terminal: figures down, arms across, differences below."""
    arms = list(compared.sweep.arms)
    first, *others = arms
    rows = {figure.name: [mean_text(compared, arm, figure) for arm in arms] for figure in FIGURES}
    text = str(pd.DataFrame.from_dict(rows, orient="index", columns=arms).to_string())
    if others:
        apart = {
            figure.name: [difference_text(compared, arm, figure) for arm in others]
            for figure in FIGURES
        }
        frame = pd.DataFrame.from_dict(apart, orient="index", columns=others)
        text += f"\n\nminus {first}\n{frame.to_string()}"
    return "\n".join([text, "", *remarks(compared)])
