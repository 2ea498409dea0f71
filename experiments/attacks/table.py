"""The tables of the runs that experiments/attacks/run.py made, from their folders alone.

    python experiments/attacks/table.py runs/attacks

First the last round of every strategy under every attack, mean ± standard deviation over seeds.
Then whether bad clients stand out, all rounds, seeds and strategies together, with 95 % intervals
by Wilson, and whether circuits do it better than what needs none. What lies behind is written
beside the runs: last-round.csv, detection.csv, and the same by strategy, by round and by seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from attacks import ATTACKS
from judged import SETTING, complete_runs, detection, judged_clients
from run import CALIBRATION, STRATEGIES
from suspicion import SIDES, WITHOUT

from fedcircuit import Run

COLUMNS = ("accuracy", "valid, global", "valid, good clients", "preserved, of these", "set aside")
ORDER = list(ATTACKS)


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
    for column in COLUMNS:
        print(f"\n{column}\n\n" + "\n".join(outcome_lines(last, column)))
    rows = judged_clients(runs)
    seen = rows[~rows["attack"].str.contains("nan")]  # whose replies are set aside, or not seen
    pooled = detection(seen, ["attack", "n_bad"])
    pooled.to_csv(folder / "detection.csv", index=False)
    split = {by: detection(seen, [by, "attack", "n_bad"]) for by in ("strategy", "round", "seed")}
    for by, table in split.items():
        table.to_csv(folder / f"detection-by-{by}.csv", index=False)
    for n_bad in sorted(set(pooled["n_bad"]) - {0}):
        print(f"\n{n_bad} bad: AUROC, detected, false alarms among the good\n")
        print("\n".join(detection_lines(pooled[pooled["n_bad"] == n_bad])))
    print("\nAUROC of overlap less that of others, ± standard error over seeds\n")
    print("\n".join(difference_lines(split["seed"])))
    print("\nfalse alarms\n\n" + "\n".join(alarm_lines(seen)))


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


def outcome_lines(last: pd.DataFrame, column: str) -> list[str]:
    """A line an attack and number of bad clients, a cell a strategy, in Markdown."""
    strategies = [name for name in STRATEGIES if name in set(last["strategy"])]
    lines = ["| attack | bad | " + " | ".join(strategies) + " |",
             "|---|---|" + "---|" * len(strategies)]  # fmt: skip
    cells = last.groupby(["attack", "n_bad", "strategy"])[column].agg(_with_spread)
    for attack, n_bad in sorted({key[:2] for key in cells.index}, key=_place):
        row = [cells.get((attack, n_bad, strategy), "") for strategy in strategies]
        lines.append(f"| {attack} | {n_bad} | " + " | ".join(row) + " |")
    return lines


def detection_lines(pooled: pd.DataFrame) -> list[str]:
    """A line a statistic, a cell an attack, in Markdown."""
    attacks = [attack for attack in ORDER if attack in set(pooled["attack"])]
    rows = pooled.set_index(["statistic", "attack"])
    lines = ["| statistic | " + " | ".join(attacks) + " |", "|---|" + "---|" * len(attacks)]
    for statistic in SIDES:
        found = [rows.loc[(statistic, attack)] for attack in attacks]
        cells = [f"{r['auroc']:.2f}, {r['detected']:.0%}, {r['false_alarms']:.0%}" for r in found]
        lines.append(f"| {statistic} | " + " | ".join(cells) + " |")
    return lines


def difference_lines(by_seed: pd.DataFrame) -> list[str]:
    """A line an attack, a cell a statistic without circuits, in Markdown."""
    areas = by_seed[by_seed["n_bad"] > 0].pivot_table(
        index=["attack", "n_bad", "seed"], columns="statistic", values="auroc"
    )
    less = areas[list(WITHOUT)].rsub(areas["overlap"], axis=0).groupby(["attack", "n_bad"])
    mean, error = less.mean(), less.sem()
    lines = ["| attack | bad | seeds | " + " | ".join(WITHOUT) + " |",
             "|---|---|---|" + "---|" * len(WITHOUT)]  # fmt: skip
    for place in sorted(mean.index, key=_place):
        cells = [f"{mean.loc[place, s]:+.2f} ± {error.loc[place, s]:.2f}" for s in WITHOUT]
        lines.append(f"| {place[0]} | {place[1]} | {len(less.get_group(place))} | "
                     + " | ".join(cells) + " |")  # fmt: skip
    return lines


def alarm_lines(seen: pd.DataFrame) -> list[str]:
    """False alarms of each statistic without and under attack, in Markdown."""
    lines = ["| statistic | no attack | good clients under attack |", "|---|---|---|"]
    found = detection(seen.assign(attacked=seen["n_bad"] > 0), ["attacked"])
    rows = found.set_index(["statistic", "attacked"])
    for statistic in SIDES:
        cells = [
            _alarms(rows.loc[(statistic, attacked)]) if (statistic, attacked) in rows.index else "-"
            for attacked in (False, True)
        ]
        lines.append(f"| {statistic} | " + " | ".join(cells) + " |")
    return lines


def _alarms(row: pd.Series) -> str:
    interval = f"[{row['false_low']:.3f}, {row['false_high']:.3f}]"
    return f"{row['false_alarms']:.3f} {interval} of {int(row['n_good_seen'])}"


def _place(setting: tuple[str, int]) -> tuple[int, int]:
    return ORDER.index(setting[0]), setting[1]


def _with_spread(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "-"
    mean = f"{known.mean():.3f}"
    return mean if len(known) < 2 else f"{mean} ± {known.std():.3f}"


if __name__ == "__main__":
    main()
