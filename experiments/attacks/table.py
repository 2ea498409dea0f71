"""The tables of the runs that experiments/attacks/run.py made, from their folders alone.

    python experiments/attacks/table.py runs/attacks

The first: the last round of every strategy under every attack, mean ± standard deviation over
seeds. The second: whether bad clients stand out, all rounds, seeds and strategies together. What
lies behind them is written beside the runs: last-round.csv, detection.csv, and the same by strategy
and by round.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from judged import SETTING, complete_runs, detection, judged_clients
from run import CALIBRATION
from suspicion import OF_CIRCUITS, SIDES

from fedcircuit import Run

COLUMNS = ("accuracy", "valid, global", "valid, good clients", "preserved, of these", "set aside")


def main() -> None:
    """Print both tables, write what is behind them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    runs = complete_runs(folder)
    if all(seed >= CALIBRATION for *_, seed in runs):
        raise SystemExit(f"{folder} holds only the clean runs that set thresholds; nothing to test")
    last = pd.DataFrame(
        [
            {**dict(zip(SETTING, key, strict=True)), **last_round(run, n_bad=key[2])}
            for key, run in runs.items()
            if key[3] < CALIBRATION
        ]
    )
    last.to_csv(folder / "last-round.csv", index=False)
    print("\n".join(outcome_lines(last)))
    rows = judged_clients(runs)
    seen = rows[~rows["attack"].str.contains("nan")]  # whose replies are set aside, or not seen
    pooled = detection(seen, ["attack", "n_bad"])
    pooled.to_csv(folder / "detection.csv", index=False)
    for extra in ("strategy", "round"):
        table = detection(seen, [extra, "attack", "n_bad"])
        table.to_csv(folder / f"detection-by-{extra}.csv", index=False)
    print()
    print("\n".join(detection_lines(pooled)))


def last_round(run: Run, n_bad: int) -> dict[str, float]:
    """What the last round of a run has come to; NaN where there is nothing to take it of.

    Of the good clients' circuits: the share of all pairs of client and class that are valid, and
    the share of these that averaging preserved. Set aside are replies of the whole run.
    """
    number = run.rounds[-1]
    accuracy = run.table("accuracy").query("`class` == -1 and model == 'global'")
    validity = run.table("validity").query("round == @number")
    is_global = validity["model"] == "global"
    client = pd.to_numeric(validity["model"], errors="coerce")
    valid = validity["status"] == "valid"
    verdicts = run.table("verdicts").query("round == @number and verdict.notna()")
    of_good = verdicts[verdicts["client"].astype(int) >= n_bad]
    set_aside = run.failures.query("client != 'global'")
    return {
        "accuracy": float(accuracy[accuracy["round"] == number]["recall"].iloc[0]),
        "valid, global": float(valid[is_global].mean()),
        "valid, good clients": float(valid[client >= n_bad].mean()),
        "preserved, of these": float((of_good["verdict"] == "preserved").mean()),
        "set aside": float(len(set_aside)),
    }


def outcome_lines(last: pd.DataFrame) -> list[str]:
    """The first table in Markdown."""
    lines = ["| attack | bad | strategy | seeds | " + " | ".join(COLUMNS) + " |",
             "|---|---|---|---|" + "---|" * len(COLUMNS)]  # fmt: skip
    attacks = sorted(last["attack"].unique(), key=lambda attack: (attack != "none", attack))
    for attack in attacks:
        of_attack = last[last["attack"] == attack]
        for (n_bad, strategy), rows in of_attack.groupby(["n_bad", "strategy"], sort=False):
            cells = [f"{rows[c].mean():.3f} ± {rows[c].std():.3f}" for c in COLUMNS[:-1]]
            cells.append(f"{rows[COLUMNS[-1]].mean():.1f}")
            lines.append(f"| {attack} | {n_bad} | {strategy} | {len(rows)} | "
                         + " | ".join(cells) + " |")  # fmt: skip
    return lines


def detection_lines(pooled: pd.DataFrame) -> list[str]:
    """The second table in Markdown: AUROC, detected, false alarms among good clients."""
    lines = ["| statistic | of circuits | attack | bad | AUROC | detected | false alarms |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for statistic in SIDES:
        for _, row in pooled[pooled["statistic"] == statistic].iterrows():
            detected = _share(row, "detected") if row["n_bad"] else ""
            area = f"{row['auroc']:.2f}" if row["n_bad"] else ""
            lines.append(
                f"| {statistic} | {'yes' if statistic in OF_CIRCUITS else 'no'} | {row['attack']} "
                f"| {row['n_bad']} | {area} | {detected} | {_share(row, 'false')} |"
            )
    return lines


def _share(row: pd.Series, kind: str) -> str:
    value = row["detected" if kind == "detected" else "false_alarms"]
    return f"{value:.3f} [{row[f'{kind}_low']:.3f}, {row[f'{kind}_high']:.3f}]"


if __name__ == "__main__":
    main()
