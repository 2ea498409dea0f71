"""The runs of experiments/attacks/run.py as one frame, with every client's flags."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from flags import auroc, outlyingness, threshold, wilson
from run import CALIBRATION, STRATEGIES
from suspicion import SIDES, client_statistics

from fedcircuit import Run

SETTING = ["strategy", "attack", "n_bad", "seed"]


def complete_runs(folder: Path) -> dict[tuple[str, str, int, int], Run]:
    """Runs by strategy, attack, number of bad clients and seed, in the order of the strategies."""
    runs = {}
    for path in sorted(folder.glob("*/*-*/seed*")):
        if path.name.removeprefix("seed").isdigit():  # not one that is unfinished
            attack, _, n_bad = path.parent.name.rpartition("-")
            key = (path.parent.parent.name, attack, int(n_bad), int(path.name[4:]))
            runs[key] = Run.load(path)
    if not runs:
        raise SystemExit(f"{folder} holds no complete runs STRATEGY/ATTACK-BAD/seedN")
    order = list(STRATEGIES)
    return {key: runs[key] for key in sorted(runs, key=lambda key: (order.index(key[0]), *key))}


def judged_clients(runs: dict[tuple[str, str, int, int], Run]) -> pd.DataFrame:
    """A row for every client, round and statistic of the runs that are tested.

    Columns: those of `SETTING`, round, client, bad, statistic, value, z, threshold and flagged.
    """
    frames = []
    for key, run in runs.items():
        wide = client_statistics(run).assign(**dict(zip(SETTING, key, strict=True)))
        wide["bad"] = wide["client"].astype(int) < wide["n_bad"]
        frames.append(wide)
    clients = pd.concat(frames, ignore_index=True)
    rows = clients.melt([*SETTING, "round", "client", "bad"], list(SIDES), "statistic")
    rounds = rows.groupby([*SETTING, "round", "statistic"], sort=False)["value"]
    rows["z"] = rounds.transform(lambda v: outlyingness(v.tolist(), SIDES[v.name[-1]]))
    return with_flags(rows)


def with_flags(rows: pd.DataFrame) -> pd.DataFrame:
    """The tested rows with their threshold, and whether z is above it.

    Thresholds are those of the same strategy, round and statistic in the clean runs with seeds from
    `CALIBRATION` on; where there are none, nobody is flagged.
    """
    clean = rows[(rows["seed"] >= CALIBRATION) & (rows["attack"] == "none")]
    limits = clean.groupby(["strategy", "round", "statistic"])["z"].agg(
        lambda z: threshold(z.tolist())
    )  # fmt: skip
    tested = rows[rows["seed"] < CALIBRATION]
    tested = tested.join(limits.rename("threshold"), on=["strategy", "round", "statistic"])
    return tested.assign(flagged=tested["z"] > tested["threshold"])


def detection(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """How well each statistic tells bad clients from good ones, by some of the columns.

    Columns: n_bad_seen, detected and its Wilson interval, n_good_seen, false_alarms and its
    interval, auroc (of z). Clients of a round and rounds of a run are not independent: the
    intervals are narrower than the truth.
    """
    found = []
    for key, part in rows.groupby([*by, "statistic"], sort=False):
        bad, good = part[part["bad"]], part[~part["bad"]]
        hits, alarms = int(bad["flagged"].sum()), int(good["flagged"].sum())
        found.append(
            {
                **dict(zip([*by, "statistic"], key, strict=True)),
                "n_bad_seen": len(bad),
                "detected": hits / len(bad) if len(bad) else float("nan"),
                **dict(zip(("detected_low", "detected_high"), wilson(hits, len(bad)), strict=True)),
                "n_good_seen": len(good),
                "false_alarms": alarms / len(good) if len(good) else float("nan"),
                **dict(zip(("false_low", "false_high"), wilson(alarms, len(good)), strict=True)),
                "auroc": auroc(bad["z"].tolist(), good["z"].tolist()),
            }
        )
    return pd.DataFrame(found)
