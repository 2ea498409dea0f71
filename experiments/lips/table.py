"""Tables of the runs that experiments/lips/paired.py made, from their folders alone.

    python experiments/lips/table.py runs/mnist-mlp

Accuracy in the last round, and its difference to fedavg on the same data and initial weights, with
the standard error over seeds; what the layers did; the inertia index.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from fedcircuit import Run

CONTROL = "fedavg"
LATE = 10  # a single round is noisy where accuracy still moves


def print_table(folder: Path) -> None:
    """All tables of a folder of runs ``ARM/seedN``."""
    runs = complete_runs(folder)
    frame = pd.DataFrame([measured(run, arm, seed) for (arm, seed), run in runs.items()])
    if frame.empty:
        raise SystemExit(f"{folder} holds no complete runs ARM/seedN")
    arms = sorted(frame["arm"].unique(), key=lambda arm: (arm != CONTROL, arm))
    frame = frame.set_index(["arm", "seed"]).sort_index()
    n_rounds = {len(run.rounds) for run in runs.values()}
    print(f"\n{folder}: rounds {n_rounds}, mean ± standard deviation over seeds")
    print("difference: points of accuracy to fedavg, seed by seed, mean ± standard error\n")
    names = [name for name in frame.columns if not name.startswith(("r ", "drift "))]
    print("| arm | seeds | " + " | ".join(f"{name} | difference" if "accuracy" in name else name
                                           for name in names) + " |")  # fmt: skip
    print("|---|---|" + "---|" * (len(names) + sum("accuracy" in name for name in names)))
    for arm in arms:
        rows = frame.loc[arm]
        cells = []
        for name in names:
            cells.append(f"{rows[name].mean():.4f} ± {rows[name].std():.4f}")
            if "accuracy" in name:
                cells.append(_difference(frame, arm, name))
        print(f"| {arm} | {len(rows)} | " + " | ".join(cells) + " |")
    for kind, words in (("r ", "relative movement, second half of the rounds"),
                        ("drift ", "drift since the snapshot, last round")):  # fmt: skip
        layers = [name for name in frame.columns if name.startswith(kind)]
        print(f"\n| {words} | " + " | ".join(name.removeprefix(kind) for name in layers) + " |")
        print("|---|" + "---|" * len(layers))
        for arm in arms:
            means = frame.loc[arm][layers].mean()
            print(f"| {arm} | " + " | ".join(f"{value:.4f}" for value in means) + " |")


def complete_runs(folder: Path) -> dict[tuple[str, int], Run]:
    """By arm and seed, the runs that have all rounds of their study; others are named."""
    runs = {}
    for path in sorted(folder.glob("*/seed*")):
        run = Run.load(path)
        wanted = run.manifest["config"]["training"]["rounds"]
        if len(run.rounds) < wanted:
            print(f"{path} has {len(run.rounds)} of {wanted} rounds and is left out: resume it "
                  "with 'fedcircuit resume', or delete it and run paired.py again")  # fmt: skip
            continue
        runs[path.parent.name, int(path.name.removeprefix("seed"))] = run
    return runs


def measured(run: Run, arm: str, seed: int) -> dict[str, object]:
    """One run as one row."""
    row: dict[str, object] = {"arm": arm, "seed": seed}
    accuracy = run.table("accuracy").query("model == 'global' and `class` == -1")
    last, half = run.rounds[-1], len(run.rounds) // 2
    row["accuracy"] = float(accuracy[accuracy["round"] == last]["recall"].iloc[0])
    late = accuracy[accuracy["round"] > last - LATE]["recall"]
    row[f"accuracy, last {LATE} rounds"] = float(late.mean())
    clients = run.clients
    if "test_accuracy" in clients:
        # means over clients, every client alike, as in the paper's code
        row["accuracy before averaging"] = float(
            clients[clients["round"] == last]["test_accuracy"].mean()
        )
        row["accuracy after averaging"] = float(
            run.evaluations.set_index("round")["accuracy"].loc[last]
        )
    index = run.table("inertia_index")
    known = index[index["index"].notna()]
    row["inertia index"] = float(known[known["round"] > half]["index"].median())
    row["rounds below 0.5"] = float((known["index"] < 0.5).mean())
    layers = run.table("inertia")
    matrices = [name for name, values in run.weights(0).items() if values.ndim > 1]
    for name in matrices:  # batch norm and biases are in the recorded table
        rows = layers[layers["path"] == name]
        row[f"r {name}"] = float(rows[rows["round"] > half]["r"].mean())
        row[f"drift {name}"] = float(rows[rows["round"] == last]["drift"].iloc[0])
    return row


def _difference(frame: pd.DataFrame, arm: str, name: str) -> str:
    """Points of accuracy to the control, over the seeds that both have."""
    if arm == CONTROL or CONTROL not in frame.index:
        return ""
    paired = (100 * (frame.loc[arm][name] - frame.loc[CONTROL][name])).dropna()
    if len(paired) < 2:
        return "one seed"
    return f"{paired.mean():+.2f} ± {paired.std() / np.sqrt(len(paired)):.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    print_table(parser.parse_args().folder)
