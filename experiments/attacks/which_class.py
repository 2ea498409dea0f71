"""Do circuits tell which class an attack is about? From the folders of one-class runs alone.

    python experiments/attacks/which_class.py runs/one-class

The bad clients train the last class as the first. For every bad client and round: the class in
which it lies farthest from the median of the round's clients, by its circuit's overlap with the
others' circuits, and, as control, by the recall of its model on the probe. A hit is the last class
or the first: two of ten by chance. Means over rounds, strategies and bad clients of a seed, then
mean and standard error over seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from flags import Floats, outlyingness
from judged import complete_runs
from run import CALIBRATION
from suspicion import overlaps_by_class

from fedcircuit import Run

ATTACK = "one-class"


def main() -> None:
    """Print a line for each number of bad clients."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rows = [
        {"n_bad": n_bad, "seed": seed, **hit}
        for (_, attack, n_bad, seed), run in complete_runs(folder).items()
        if attack == ATTACK and seed < CALIBRATION
        for hit in hits(run, n_bad)
    ]
    if not rows:
        raise SystemExit(f"{folder} holds no runs of {ATTACK}")
    by_seed = pd.DataFrame(rows).groupby(["n_bad", "seed"]).mean()
    print("| bad | seeds | by overlap | by recall | difference |\n|---|---|---|---|---|")
    for n_bad, seeds in by_seed.groupby("n_bad"):
        seeds = seeds.assign(difference=seeds["overlap"] - seeds["recall"])
        cells = [f"{seeds[c].mean():.3f} ± {seeds[c].sem():.3f}" for c in seeds.columns]
        print(f"| {n_bad} | {len(seeds)} | " + " | ".join(cells) + " |")


def hits(run: Run, n_bad: int) -> list[dict[str, float]]:
    """For every round and bad client, how much each statistic points at the last class or first."""
    found = []
    validity = run.table("validity")
    for number in run.rounds:
        stack = run.masks(number)
        if stack is None:
            continue
        overlaps = overlaps_by_class(stack, run.observed(number, "circuits")["live"])
        recalls = validity[validity["round"] == number].pivot(
            index="model", columns="class", values="full_recall"
        )
        by_statistic = {
            "overlap": np.array(list(overlaps.values())),
            "recall": recalls.loc[list(overlaps)].to_numpy(),
        }
        bad = [row for row, client in enumerate(overlaps) if int(client) < n_bad]
        shares = {name: pointed(values) for name, values in by_statistic.items()}
        for row in bad:
            found.append({name: float(of[row, [0, -1]].sum()) for name, of in shares.items()})
    return found


def pointed(values: Floats) -> Floats:
    """1 for the class in which a client lies farthest below the median, ``[clients, classes]``.

    Classes that are equally far share the 1. One in which the client has no value is the farthest,
    one in which half of the clients have none the nearest.
    """
    z = np.stack([outlyingness(column.tolist(), "low") for column in values.T], axis=1)
    ordered = np.where(np.isnan(z), -np.inf, z)
    first = ordered == ordered.max(axis=1, keepdims=True)
    return first / first.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    main()
