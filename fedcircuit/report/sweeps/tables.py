"""Arms of a sweep side by side, and each in pairs with the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean

import pandas as pd

from fedcircuit.records.sweeps import Sweep
from fedcircuit.report.sweeps.measures import FIGURES, runs_table
from fedcircuit.report.sweeps.pairing import broken_pairs
from fedcircuit.report.sweeps.statistics import FEWEST, bca_interval, holm, paired_p


@dataclass(frozen=True)
class Compared:
    """A sweep in tables.

    Parameters
    ----------
    sweep
        What is compared.
    runs
        From `runs_table`.
    arms
        Arm, figure, mean, sd, n: over the seeds in which the figure is defined.
    differences
        Arm, figure, mean, low, high, n, p, p_holm, note: arm minus first arm, over the seeds in
        which both are defined; undefined numbers are NaN, ``note`` says why.
    unfinished
        Runs that are left out, by their folders.
    broken
        Pairs that do not share what they should, in words.
    """

    sweep: Sweep
    runs: pd.DataFrame
    arms: pd.DataFrame
    differences: pd.DataFrame
    unfinished: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def first(self) -> str:
        """The arm that others are compared with."""
        return next(iter(self.sweep.arms))


def compared(sweep: Sweep) -> Compared:
    """All tables of a sweep, from its folder alone.

    Raises
    ------
    RunError
        If a run is damaged or of other settings.
    ValueError
        If no run is finished.
    """
    runs = runs_table(sweep)
    if runs.empty:
        raise ValueError(f"{sweep.path} has no finished run yet: nothing to compare")
    there = set(runs["run"])
    missing = [f"{arm}/seed{seed}" for arm in sweep.arms for seed in sweep.seeds]
    return Compared(
        sweep,
        runs,
        arms_table(runs, list(sweep.arms)),
        differences_table(runs, list(sweep.arms)),
        tuple(name for name in missing if name not in there),
        broken_pairs(sweep, runs),
    )


def arms_table(runs: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Mean, sample standard deviation and number of defined values, by arm and figure.

    Parameters
    ----------
    runs
        From `runs_table`.
    arms
        In order.
    """
    rows: list[dict[str, object]] = []
    for arm in arms:
        for figure in FIGURES:
            values = runs.loc[runs["arm"] == arm, figure.name].dropna().astype(float)
            rows.append(
                {
                    "arm": arm,
                    "figure": figure.name,
                    "mean": float(values.mean()) if len(values) else nan,
                    "sd": float(values.std()) if len(values) > 1 else nan,
                    "n": len(values),
                }
            )
    return pd.DataFrame(rows)


def differences_table(runs: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Differences to the first arm, seed by seed; see `Compared`.

    P values are adjusted over all tests of the table: every arm and every tested figure.

    Parameters
    ----------
    runs
        From `runs_table`.
    arms
        In order; the first is what others are compared with.
    """
    first, *others = arms
    indexed = runs.set_index(["arm", "seed"])
    rows: list[dict[str, object]] = []
    for arm in others:
        for figure in FIGURES:
            values = {name: _values(indexed, name, figure.name) for name in (first, arm)}
            apart = (values[arm] - values[first]).dropna().sort_index()  # by seed, where both are
            pairs = [float(value) for value in apart]
            low, high = bca_interval(pairs)
            rows.append(
                {
                    "arm": arm,
                    "figure": figure.name,
                    "mean": fmean(pairs) if pairs else nan,
                    "low": low,
                    "high": high,
                    "n": len(pairs),
                    "p": paired_p(pairs) if figure.tested else nan,
                    "note": _note(len(pairs), low),
                }
            )
    columns = ["arm", "figure", "mean", "low", "high", "n", "p", "note"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(7, "p_holm", holm(table["p"].astype(float).tolist()))
    return table


def _values(indexed: pd.DataFrame, arm: str, figure: str) -> pd.Series[float]:
    rows = indexed[indexed.index.get_level_values("arm") == arm]
    return rows.droplevel("arm")[figure].astype(float)


def _note(n: int, low: float) -> str:
    if n < FEWEST:
        return f"{n} pairs: no interval below {FEWEST}" if n else "no pair has it"
    return "all differences are the same: no interval" if low != low else ""  # NaN
