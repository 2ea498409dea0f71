"""Does a masked download cost circuits? From the folders of experiments/lips/paired.py alone.

    python experiments/lips/paired.py experiments/lips/mnist-circuits.yaml --data DATA --seeds 5
    python experiments/lips/circuits_after_masks.py runs/mnist-circuits

For every arm: circuits of the rounds whose download was masked, and of the rounds after, beside
fedavg in the same rounds of the same seeds. Shares are of all pairs of client and class; "of valid"
are shares of the client circuits that are valid. Differences are means over seeds with their
standard error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from table import CONTROL, complete_runs

from fedcircuit import Run

VERDICTS = ("preserved", "relocated", "degraded", "collapsed")
PERIOD, FIRST = 5, 2  # rounds 2, 7, 12 ... start from a masked download
COLUMNS = ("accuracy", "valid", *(f"{verdict} of valid" for verdict in VERDICTS), "adjusted IoU",
           "global valid")  # fmt: skip


def main() -> None:
    """One table of means, one of differences to the control."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    frames = [by_round(run).assign(arm=arm, seed=seed)
              for (arm, seed), run in complete_runs(folder).items()]  # fmt: skip
    if not frames:
        raise SystemExit(f"{folder} holds no complete runs ARM/seedN")
    rounds = pd.concat(frames)
    rounds = rounds[rounds["round"] >= FIRST]
    phase = (rounds["round"] - FIRST) % PERIOD
    rounds["when"] = np.where(phase == 0, "masked", np.where(phase == 1, "1 after", "2 to 4 after"))
    means = rounds.groupby(["arm", "when", "seed"])[list(COLUMNS)].mean()
    print("| arm | rounds | seeds | " + " | ".join(COLUMNS) + " |")
    print("|---|---|---|" + "---|" * len(COLUMNS))
    for arm in sorted(rounds["arm"].unique(), key=lambda arm: (arm != CONTROL, arm)):
        for when in ("masked", "1 after", "2 to 4 after"):
            rows = means.loc[arm, when]
            cells = [f"{rows[c].mean():.3f} ± {rows[c].std():.3f}" for c in COLUMNS]
            print(f"| {arm} | {when} | {len(rows)} | " + " | ".join(cells) + " |")
    print(f"\n| difference to {CONTROL} | rounds | " + " | ".join(COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    for arm in sorted(set(rounds["arm"]) - {CONTROL}):
        for when in ("masked", "1 after", "2 to 4 after"):
            paired = means.loc[arm, when] - means.loc[CONTROL, when]
            cells = [f"{paired[c].mean():+.3f} ± {paired[c].sem():.3f}" for c in COLUMNS]
            print(f"| {arm} | {when} | " + " | ".join(cells) + " |")


def by_round(run: Run) -> pd.DataFrame:
    """A row for every round; undefined where no client circuit is valid."""
    accuracy = run.table("accuracy").query("model == 'global' and `class` == -1")
    validity, verdicts = run.table("validity"), run.table("verdicts")
    overlap = run.table("overlap").query("layer == 'all'")
    known = verdicts[verdicts["verdict"].notna()][["round", "client", "class", "verdict"]]
    pairs = known.merge(overlap, on=["round", "client", "class"], how="left")
    rows = []
    for number in run.rounds:
        here = validity[validity["round"] == number]
        local, average = here[here["model"] != "global"], here[here["model"] == "global"]
        words = known[known["round"] == number]["verdict"]
        shares = {f"{verdict} of valid": float((words == verdict).mean()) for verdict in VERDICTS}
        rows.append(
            {
                "round": number,
                "accuracy": float(accuracy[accuracy["round"] == number]["recall"].iloc[0]),
                "valid": float((local["status"] == "valid").mean()),
                **shares,
                "adjusted IoU": float(pairs[pairs["round"] == number]["adjusted"].mean()),
                "global valid": float((average["status"] == "valid").mean()),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
