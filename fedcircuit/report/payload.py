"""What the page draws, as plain values: every figure of the page comes from here."""

from __future__ import annotations

import base64
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

from fedcircuit.records.run import Run
from fedcircuit.report import tables
from fedcircuit.report.verdict_text import headline
from fedcircuit.report.words import STATUSES, VERDICTS

_MOST_DRAWN_BITS = 8_000_000  # about 1.3 MB of base64: beyond it only the last round is drawn


def build_payload(run: Run) -> dict[str, Any]:
    """Everything the page's script needs; undefined numbers are None."""
    rounds = list(run.rounds)
    clients = _clients(run)
    return {
        "name": run.name,
        "headline": headline(run),
        "created": run.manifest["created"],
        "classes": list(run.class_names),
        "rounds": rounds,
        "clients": clients,
        "verdict_words": [asdict(word) for word in VERDICTS],
        "status_words": [asdict(word) for word in STATUSES],
        "accuracy": _pairs(tables.accuracy(run), "accuracy"),
        "recall": _grid(tables.class_recall(run), ["class"], ["recall"]),
        "local_recall": _local_recall(run),
        "overlap": _records(tables.mean_overlap(run)),
        "verdicts": _verdicts(run),
        "overlap_cells": _overlap_cells(run),
        "functions": _records(tables.functions(run)),
        "circuits": _circuits(run),
        "failures": _records(run.failures),
        "observer_errors": _records(run.observer_errors),
        "partition": run.partition,
        "config": run.manifest["config"],
        "versions": run.manifest["versions"],
        "thresholds": run.manifest["thresholds"],
        "seed": run.manifest["seed"],
        "commit": run.manifest["commit"],
        "seconds": _records(run.seconds),
    }


def _clients(run: Run) -> list[str]:
    names = {str(client) for client in run.clients.get("client", [])}
    return sorted(names, key=lambda name: (not name.isdecimal(), name.zfill(12)))


def _plain(value: Any) -> Any:
    if isinstance(value, (np.floating, float)):
        return round(float(value), 5) if isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return None if value is pd.NA else value


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): _plain(value) for key, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]


def _pairs(frame: pd.DataFrame, column: str) -> list[list[Any]]:
    return [[int(n), _plain(v)] for n, v in frame[["round", column]].itertuples(index=False)]


def _grid(frame: pd.DataFrame, keys: list[str], values: list[str]) -> dict[str, Any]:
    """By round: a list of ``[*keys, *values]``."""
    grid: dict[str, Any] = {}
    for row in frame[["round", *keys, *values]].itertuples(index=False):
        grid.setdefault(str(int(row[0])), []).append([_plain(cell) for cell in row[1:]])
    return grid


def _local_recall(run: Run) -> dict[str, Any]:
    if not tables.has(run, "validity"):
        return {}
    return _grid(tables.client_validity(run), ["model", "class"], ["full_recall"])


def _verdicts(run: Run) -> dict[str, Any]:
    """By round: client, class, verdict, status, and the reason of the one or the other."""
    if not tables.has(run, "verdicts", "validity"):
        return {}
    keys = ["round", "client", "class"]
    status = tables.client_validity(run).rename(columns={"model": "client", "reason": "why"})
    joined = run.table("verdicts").merge(status[[*keys, "status", "why", "size"]], on=keys)
    joined["words"] = joined["reason"].where(joined["verdict"].notna(), joined["why"])
    return _grid(joined, ["client", "class"], ["verdict", "status", "words", "size"])


def _overlap_cells(run: Run) -> dict[str, Any]:
    """By layer and round: client, class, raw and adjusted IoU, chance, p."""
    if not tables.has(run, "overlap"):
        return {}
    table = run.table("overlap")
    return {
        str(layer): _grid(group, ["client", "class"], ["iou", "adjusted", "chance", "p_value"])
        for layer, group in table.groupby("layer", sort=False)
    }


def _circuits(run: Run) -> dict[str, Any] | None:
    """Masks of every round as packed bits in base64, with the sites they belong to."""
    if not tables.has(run, "sites", "models"):
        return None
    observed = [int(n) for n in run.table("models")["round"].unique()]
    drawn: dict[str, Any] = {}
    sites: list[dict[str, Any]] = []
    for number in reversed(observed):
        stack = run.masks(number)
        if stack is None:
            continue
        if not sites:
            sites = [{"name": s.name, "n_units": s.n_units} for s in stack.sites]
        if drawn and stack.masks.numel() * (len(drawn) + 1) > _MOST_DRAWN_BITS:
            break
        bits = np.packbits(stack.masks.numpy(), axis=-1)
        drawn[str(number)] = {
            "models": list(stack.models),
            "bits": base64.b64encode(bits.tobytes()).decode("ascii"),
            "found": stack.found.int().tolist(),
        }
    return {"sites": sites, "rounds": drawn}
