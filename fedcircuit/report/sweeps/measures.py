"""What is read off every run of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd

from fedcircuit.records.rounds import ClientRecord
from fedcircuit.records.runs import Run
from fedcircuit.records.sweeps import Sweep
from fedcircuit.report.tables import VERDICT_NAMES, accuracy, class_recall, verdict_counts


@dataclass(frozen=True)
class Figure:
    """A figure of a run.

    Parameters
    ----------
    name
        Its column.
    tested
        Whether differences in it are tested: outcomes are, costs are not.
    digits
        Shown behind the point.
    meaning
        In words.
    """

    name: str
    tested: bool
    digits: int
    meaning: str


FIGURES = (
    Figure("accuracy", True, 3, "of the global model on held-out samples, after the last round"),
    Figure("worst-class recall", True, 3, "the lowest recall of a class, after the last round"),
    Figure(
        "preserved share",
        True,
        3,
        "of the clients' valid circuits in the last observed round, those judged preserved",
    ),
    Figure("seconds", False, 1, "wall seconds of all rounds, on the machine that ran them"),
    Figure(
        "bytes down",
        False,
        0,
        "of the tensors that a client is sent in a round, uncompressed",
    ),
    Figure(
        "bytes up",
        False,
        0,
        "of the tensors and side records that a client sends in a round, uncompressed",
    ),
)
IDENTITY = ["arm", "seed", "run", "rounds"]


def runs_table(sweep: Sweep) -> pd.DataFrame:
    """One row for every finished run: arm, seed, run, rounds, `FIGURES`, number of each verdict.

    ``run`` is the folder below that of the sweep. What a run has not recorded is NaN.

    Raises
    ------
    RunError
        If a run is damaged or of other settings.
    """
    rows = []
    for arm in sweep.arms:
        for seed in sweep.seeds:
            run = sweep.finished(arm, seed)
            if run is not None:
                own = {"arm": arm, "seed": seed, "run": f"{arm}/seed{seed}"}
                rows.append({**own, "rounds": len(run.rounds), **measured(run)})
    columns = [*IDENTITY, *(figure.name for figure in FIGURES), *VERDICT_NAMES]
    return pd.DataFrame(rows, columns=columns)


def measured(run: Run) -> dict[str, float]:
    """`FIGURES` and the number of each verdict in the last round observed; undefined ones NaN."""
    reached, recall, counts = accuracy(run), class_recall(run), verdict_counts(run)
    row = dict.fromkeys((*(figure.name for figure in FIGURES), *VERDICT_NAMES), nan)
    if len(reached):
        row["accuracy"] = float(reached["accuracy"].iloc[-1])
    if len(recall):
        last = recall[recall["round"] == recall["round"].max()]["recall"].dropna()
        row["worst-class recall"] = float(last.min()) if len(last) else nan
    if len(counts):
        last_counts = counts.iloc[-1]
        valid = int(last_counts["valid"])
        row |= {name: float(last_counts[name]) for name in VERDICT_NAMES}
        row["preserved share"] = int(last_counts["preserved"]) / valid if valid else nan
    seconds = run.seconds.drop(columns="round")
    row["seconds"] = (
        float(seconds.to_numpy(dtype=float, na_value=0.0).sum()) if len(seconds) else nan
    )
    row["bytes down"], row["bytes up"] = traffic(run)
    return row


def traffic(run: Run) -> tuple[float, float]:
    """Bytes a client is sent and sends in the newest round that anybody took part in.

    Down, the tensors of the global model; up, the mean over the clients of their tensors and side
    records. Where clients' tensors were not kept they are as large as the model's: replies must
    agree with it in names, shapes and types. NaN where nobody took part.
    """
    for number in reversed(run.rounds):
        if run.clients_of(number):
            record = run.record(number)
            model = sum(values.nbytes for values in run.weights(number - 1).values())
            up = [_sent(client, model) for client in record.clients]
            return float(model), float(np.mean(up))
    return nan, nan


def _sent(client: ClientRecord, model: int) -> int:
    tensors = sum(values.nbytes for values in client.weights.values()) if client.weights else model
    return tensors + sum(size_of(value) for value in client.extra.values())


def size_of(value: object) -> int:
    """Bytes of a value of a side record: text and bytes as they are, a number 8, lists of these."""
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return sum(size_of(item) for item in value.values())
    if isinstance(value, Sequence):
        return sum(size_of(item) for item in value)
    return 8
