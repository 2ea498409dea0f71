"""The sections of the page, in order: a title, and a function from a run to what is drawn.

A section ``KEY`` is this entry, the template ``section-KEY.html.j2`` and the script
``section-KEY.js``, which finds the data under ``D.KEY``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedcircuit.records.rounds import GLOBAL, NOT_FINITE_LOGITS
from fedcircuit.records.runs import Run
from fedcircuit.report.page.inertia_section import inertia
from fedcircuit.report.page.information_section import information
from fedcircuit.report.tables import circuit_bits, grid, overlaps, question_rows, records
from fedcircuit.report.tables import counts as tables

MOST_CELLS = 12_000  # rows of a grid that are embedded: about 0.5 MB; older rounds are left out

PAIR_COLUMNS = (
    "client", "class", "iou", "adjusted", "chance", "p_value", "q_value", "weighted",
    "weighted_chance", "swapped", "swapped_max",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    key: str
    title: str
    data: Callable[[Run], Any]


def verdicts(run: Run) -> dict[str, Any]:
    """Verdicts as one letter a cell for all rounds, and reasons for as many as there is room.

    ``letters`` has by round ``[client, text]``, the text with the initial of a verdict or status
    at the place of every class, a space where nothing is known.
    """
    table = tables.judged(run)
    letters: dict[str, list[list[str]]] = {}
    for number, rows in table.groupby("round"):
        here: dict[str, list[str]] = {}
        for client, index, word in rows[["client", "class", "word"]].itertuples(index=False):
            line = here.setdefault(str(client), [" "] * len(run.class_names))
            line[int(index)] = LETTERS[str(word)]
        letters[str(number)] = [
            [name, "".join(here[name])] for name in tables.natural_order(list(here))
        ]
    reasons = grid(table, ["client", "class", "reason"], MOST_CELLS)
    return {"letters": letters, "reasons": reasons}


LETTERS = {
    "preserved": "p",
    "relocated": "r",
    "degraded": "d",
    "collapsed": "c",
    "valid": "v",
    "undiscovered": "u",
    "not_finite": "x",
    "not_learned": "n",
    "absent": "a",
}


def accuracy(run: Run) -> dict[str, Any]:
    """Global accuracy, recall of every class, and what each client's own model recognises."""
    clients: dict[str, Any] = {}
    if tables.has(run, "validity"):
        # the global model among them, so that all of them are measured on the same samples
        clients = grid(tables.frame(run, "validity"), ["model", "class", "full_recall"], MOST_CELLS)
    return {
        "accuracy": records(tables.accuracy(run)),
        "recall": grid(tables.class_recall(run), ["class", "recall"]),
        "clients": clients,
        "test": tables.has(run, "accuracy"),
    }


def overlap(run: Run) -> dict[str, Any]:
    """Mean overlap by round and layer; every valid pair, by layer and round, as `PAIR_COLUMNS`.

    ``recorded`` tells what the run has of the measures that older runs lack.
    """
    cells: dict[str, Any] = {}
    if tables.has(run, "overlap"):
        table = overlaps.pairs(run)
        layers = list(dict.fromkeys(tables.frame(run, "overlap")["layer"]))
        for layer in layers:
            rows = table[table["layer"] == layer]
            cells[str(layer)] = grid(rows, PAIR_COLUMNS, MOST_CELLS // len(layers))
    return {
        "mean": records(overlaps.mean_overlap(run)),
        "cells": cells,
        "recorded": overlaps.recorded(run),
    }


def function(run: Run) -> dict[str, Any]:
    """Every valid client circuit at home and in the average, and the means by round."""
    table = tables.functions(run)
    means = table.groupby("round")[["own", "in_global"]].mean()
    if tables.has(run, "verdicts"):  # observed rounds without a valid circuit are gaps
        means = means.reindex(tables.frame(run, "verdicts")["round"].unique())
    means = means.rename_axis(index="round").reset_index()
    columns = ["client", "class", "own", "in_global", "verdict"]
    return {"cells": grid(table, columns, MOST_CELLS), "mean": records(means) if len(table) else []}


def trouble(run: Run) -> list[dict[str, Any]]:
    """Everything set aside or left out, by round: who, what, why."""
    rows = [
        [row["round"], *_failed(row["client"], row["kind"]), row["reason"]]
        for row in records(run.failures)
    ]
    rows += [
        [row["round"], f"observer {row['observer']}", "observer failed", row["error"]]
        for row in records(run.observer_errors)
    ]
    rows += [
        [row["round"], "strategy", "aggregation failed", row["error"]]
        for row in records(run.evidence)
    ]
    if tables.has(run, "skipped"):
        rows += [
            [row["round"], f"client {row['client']}", "not looked at", row["reason"]]
            for row in records(tables.frame(run, "skipped"))
        ]
    if tables.has(run, "unavailable"):
        rows += [
            [row["round"], row["part"], "not available", row["reason"]]
            for row in records(tables.frame(run, "unavailable"))
        ]
    rows += _exchange(run)
    if run.n_unsealed:
        words = "written by an earlier version, without digests: damage to them may pass unseen"
        rows.append([0, "run folder", f"{run.n_unsealed} rounds not checked", words])
    names = ("round", "who", "what", "reason")
    return [dict(zip(names, row, strict=True)) for row in sorted(rows, key=lambda row: row[0])]


def _failed(client: str, kind: str) -> tuple[str, str]:
    """Who failed, and what that means."""
    who = "global model" if client == GLOBAL else f"client {client}"
    if kind == NOT_FINITE_LOGITS:
        return who, "not measured: its logits are not finite"
    return who, kind if client == GLOBAL else f"reply set aside: {kind}"


def _exchange(run: Run) -> list[list[Any]]:
    """How weights are called when they are exchanged, and which the model supplied itself."""
    if not tables.has(run, "exchange"):
        return []
    table = tables.frame(run, "exchange")
    return [
        [0, "exchanged weights", f"{rule}: {len(rows)} tensors", ", ".join(rows["model_name"])]
        for rule, rows in table.groupby("rule", sort=False)
    ]


def setting(run: Run) -> dict[str, Any]:
    """Who holds what, how long it took, and how the run was configured."""
    keys = ("config", "thresholds", "versions", "commit", "storage")
    return {
        "partition": run.partition,
        "seconds": records(run.seconds),
        **{key: run.manifest.get(key) for key in keys},
    }


SECTIONS = (
    Section("verdicts", "What broke, and in whom", verdicts),
    Section("accuracy", "What the average still recognises", accuracy),
    Section("overlap", "Is the overlap more than chance?", overlap),
    Section("function", "Do the clients' circuits still work in the average?", function),
    Section("circuits", "The circuits themselves", circuit_bits),
    Section("inertia", "Which layers still move?", inertia),
    Section("information", "Where does the information go?", information),
    Section("questions", "Four questions about the circuits", question_rows),
    Section("trouble", "What was set aside or left out", trouble),
    Section("setting", "Setting", setting),
)
