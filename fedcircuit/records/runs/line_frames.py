"""Frames made of the lines of a run alone: metrics, replies, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from fedcircuit.records.rounds import Json, metrics_from_json
from fedcircuit.records.runs.frames import frame_of, named_beside

Lines = Sequence[Mapping[str, Json]]


def by_round(lines: Lines, key: str) -> pd.DataFrame:
    """Numbers of every round but 0, one row a round: ``round``, and a column for each name."""
    rows = [
        {"round": line["round"], **named_beside(["round"], metrics_from_json(line[key]))}
        for line in lines
        if line["round"] > 0
    ]
    return frame_of(rows, ["round"])


def clients(lines: Lines) -> pd.DataFrame:
    """Accepted replies: ``round``, ``client``, ``num_examples``, and a column for each metric."""
    columns = ["round", "client", "num_examples"]
    rows = [
        {
            "round": line["round"],
            "client": client["client"],
            "num_examples": client["num_examples"],
            **named_beside(columns, metrics_from_json(client["metrics"])),
        }
        for line in lines
        for client in line["clients"]
    ]
    return frame_of(rows, columns)


def failures(lines: Lines) -> pd.DataFrame:
    """What went wrong in rounds: ``round``, ``client``, ``kind``, ``reason``."""
    columns = ["round", "client", "kind", "reason"]
    rows = [
        dict(zip(columns, (line["round"], *failure), strict=True))
        for line in lines
        for failure in line["failures"]
    ]
    return frame_of(rows, columns)


def observer_errors(lines: Lines) -> pd.DataFrame:
    """Observers that failed: ``round``, ``observer``, ``error``."""
    rows = [
        {"round": line["round"], "observer": name, "error": error}
        for line in lines
        for name, error in line["observer_errors"].items()
    ]
    return frame_of(rows, ["round", "observer", "error"])
