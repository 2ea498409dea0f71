"""The table of the runs that experiments/information_plane/reference.py made, from their folders.

    python experiments/information_plane/table.py runs/szt

For every split and period, after the last average: accuracy, I(X;T) and I(T;Y) of every hidden
layer, of the clients just before it (their mean) and of the average right after it; mean and
standard deviation over seeds. Where the study is the one of the reference run, a run of the same
set-up with its own labels and code stands below every line.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from fedcircuit import Run

MODELS = {"local": "mean of clients", "avg": "global"}
QUANTITIES = ("I(X;T)", "I(T;Y)")
COLUMNS = ["accuracy local / avg", *(f"{q} {m}" for q in QUANTITIES for m in MODELS)]

# The reference run: 4 clients, Adam 2e-3, 4,000 steps, batch 256, 30 bins, bits, 2 seeds. Majority
# class 0.517 (ours: 0.510, as the labels are made by another rule of the same kind).
REFERENCE = {
    ("iid", "1"): [
        ".968 / .981", "12 12 11.8 11.0 6.6", "12 12 11.8 11.0 6.6", "1 1 .99 .98 .97",
        "1 1 .99 .99 .97",
    ],
    ("iid", "160"): [
        ".967 / .976", "12 12 11.9 10.9 5.7", "12 12 11.9 10.9 5.6", "1 1 .99 .98 .96",
        "1 1 1 .98 .97",
    ],
    ("iid", "800"): [
        ".961 / .972", "12 12 11.9 10.7 4.3", "12 12 11.9 10.7 4.3", "1 1 1 .98 .94",
        "1 1 1 .99 .97",
    ],
    ("iid", "never"): [
        ".937 / .836", "12 12 12 10.2 3.8", "12 12 12 9.9 3.2", "1 1 1 .98 .84", "1 1 1 .92 .58",
    ],
    ("sorted", "1"): [
        ".649 / .815", "12 12 11.2 10 8.0", "12 12 11.2 10 8.2", "1 .99 .82 .64 .52",
        "1 .99 .83 .66 .53",
    ],
    ("sorted", "160"): [
        ".539 / .597", "12 11.9 10.2 7.3 3.6", "12 12 11.5 10.2 7.2", "1 .99 .71 .49 .34",
        "1 1 .92 .74 .55",
    ],
    ("sorted", "never"): [
        ".588 / .480", "12 11.9 8.7 4.4 0.9", "12 12 11.8 10.9 8.0", "1 .98 .53 .35 .16",
        "1 1 .94 .64 .21",
    ],
}  # fmt: skip


def print_table(folder: Path) -> None:
    """The table of a folder of runs ``SPLIT-PERIOD/seedN``."""
    arms = runs_of(folder)
    if not arms:
        raise SystemExit(f"{folder} holds no complete runs SPLIT-PERIOD/seedN")
    measured = {arm: [last_plane(run) for run in runs] for arm, runs in arms.items()}
    reference = any(run.manifest["config"]["data"]["name"] == "szt"
                    for runs in arms.values() for run in runs)  # fmt: skip
    one = next(iter(measured.values()))[0]
    for quantity in QUANTITIES:
        rows = one[one["quantity"] == quantity]
        print(f"{quantity}: {rows['estimator'].iloc[-1]}, {rows['setting'].iloc[-1]}, "
              f"{rows['unit'].iloc[-1]}, n = {rows['n'].iloc[-1]}; layers first to last; "
              "* saturated in a seed")  # fmt: skip
    print("\n| split | period (steps) | seeds | " + " | ".join(COLUMNS) + " |")
    print("|---|---|---|" + "---|" * len(COLUMNS))
    for (split, period), planes in measured.items():
        cells = [_accuracies(planes)]
        cells += [_layers(planes, quantity, model) for quantity in QUANTITIES for model in MODELS]
        print(f"| {split} | {period} | {len(planes)} | " + " | ".join(cells) + " |")
        if reference and (split, period) in REFERENCE:
            print("| | reference | 2 | " + " | ".join(REFERENCE[split, period]) + " |")


def runs_of(folder: Path) -> dict[tuple[str, str], list[Run]]:
    """Complete runs by split and period, splits in the order of their names, never last."""
    arms: dict[tuple[str, str], list[Run]] = {}
    for path in sorted(folder.glob("*-*/seed*")):
        if path.name.removeprefix("seed").isdigit():
            split, _, period = path.parent.name.rpartition("-")
            arms.setdefault((split, period), []).append(Run.load(path))
    order = sorted(arms, key=lambda arm: (arm[0], float(arm[1]) if arm[1].isdigit() else np.inf))
    return {arm: arms[arm] for arm in order}


def last_plane(run: Run) -> pd.DataFrame:
    """Rows of the last round; of two bounds the upper one alone."""
    table = run.table("information")
    table = table[(table["round"] == run.rounds[-1]) & table["model"].isin(list(MODELS.values()))]
    return table.drop_duplicates(["model", "layer", "quantity"], keep="last")


def _accuracies(planes: list[pd.DataFrame]) -> str:
    values = [
        [float(plane.loc[plane["model"] == name, "accuracy"].iloc[0]) for plane in planes]
        for name in MODELS.values()
    ]
    return " / ".join(_with_spread(one, 3) for one in values)


def _layers(planes: list[pd.DataFrame], quantity: str, model: str) -> str:
    cells = []
    chosen = [
        plane[(plane["quantity"] == quantity) & (plane["model"] == MODELS[model])]
        for plane in planes
    ]
    for layer in dict.fromkeys(chosen[0]["layer"].astype(str)):
        rows = [plane[plane["layer"].astype(str) == layer].iloc[0] for plane in chosen]
        digits = 1 if quantity == "I(X;T)" else 2
        flag = "*" if any(bool(row["saturated"]) for row in rows) else ""
        cells.append(_with_spread([float(row["value"]) for row in rows], digits) + flag)
    return ", ".join(cells)


def _with_spread(values: list[float], digits: int) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    print_table(parser.parse_args().folder)
