"""Whether runs of one seed share what pairing needs, read off the runs themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedcircuit.records.runs import Run
from fedcircuit.records.sweeps import Sweep


def broken_pairs(sweep: Sweep, runs: pd.DataFrame) -> tuple[str, ...]:
    """Runs that do not share partition or initial weights with the first arm's, in words.

    Parameters
    ----------
    sweep
        Where the runs lie.
    runs
        Those that are finished, from `runs_table`.
    """
    first = next(iter(sweep.arms))
    found = []
    for seed, rows in runs.groupby("seed"):
        there = list(rows["arm"])
        if first not in there:
            continue
        one = Run.load(sweep.run_path(first, int(str(seed))))
        for arm in there:
            other = Run.load(sweep.run_path(arm, int(str(seed))))
            apart = [] if arm == first else differing(one, other)
            if apart:
                found.append(f"{arm}, seed {seed}: other {' and '.join(apart)} than {first}")
    return tuple(found)


def differing(one: Run, other: Run) -> list[str]:
    """Which of partition and initial weights two runs do not share, bit for bit."""
    found = [] if one.partition == other.partition else ["partition"]
    first, second = one.weights(0), other.weights(0)
    same = first.keys() == second.keys() and all(
        values.dtype == second[name].dtype and np.array_equal(values, second[name], equal_nan=True)
        for name, values in first.items()
    )
    return found if same else [*found, "initial weights"]
