"""A run at a glance, for notebooks: verdicts and statuses with counts, chance, accuracy."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from fedcircuit.html import Html, block, cell, counted, facts, table
from fedcircuit.records.runs import Run
from fedcircuit.report.tables import STATUSES, VERDICTS, Word, overlaps, sentences
from fedcircuit.report.tables import counts as tables

MOST_CLIENTS, MOST_CLASSES, MOST_LAYERS = 16, 20, 12
_WORDS = {word.name: word for word in (*VERDICTS, *STATUSES)}
UNKNOWN = Word("unknown", " ", "#f6f2ea", "#8a8377", "not looked at")


def chip(word: Word) -> Html:
    """The symbol of a word on its colour, which holds in light and in dark."""
    look = f"background:{word.colour};color:{word.ink};padding:0 5px"
    return Html(f'<b style="{look}">{cell(word.symbol)}</b>')


def run_html(run: Run) -> str:
    """What the run is, what averaging did by its newest round, and overlap beside chance."""
    about = dict(run.facts)
    errors = len(run.observer_errors)
    if errors:
        about["observers failed"] = counted(errors, "time")
    told: list[object] = [sentences(run)[0], facts(about)]
    if len(rows := tables.judged(run)):
        told += [_counts(run, rows), _overlap(run)]
    elif run.rounds:
        told.append(_accuracy(run, max(run.rounds)))
    return block(run.name, *told)


def verdicts_html(run: Run) -> str:
    """Clients by classes in the newest round that was looked at."""
    rows = tables.judged(run)
    if rows.empty:
        return block("No verdicts", *sentences(run)[:1])
    number = int(rows["round"].max())
    return block(
        f"Verdicts of {run.name}, round {number}",
        _counts(run, rows),
        _grid(run, rows),
        _overlap(run),
    )


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    here: pd.DataFrame = rows.loc[rows["round"] == rows["round"].max()]
    return here


def _counts(run: Run, rows: pd.DataFrame) -> Html:
    """How many pairs of client and class have each word, the accuracy of that round beside."""
    last = _newest(rows)
    verdicts, statuses = Counter(last["verdict"].dropna()), Counter(last["status"])
    lines = [
        [Html(f"{chip(word)} {cell(word.text)}"), kind, found[word.name]]
        for kind, words, found in (
            ("verdict", VERDICTS, verdicts), ("status of the circuit", STATUSES, statuses),
        )
        for word in words
        if found[word.name]
    ]  # fmt: skip
    number = int(last["round"].iloc[0])
    head = (counted(len(last), "pair") + " of client and class", "", f"in round {number}")
    return Html(table(head, lines) + _line(_accuracy(run, number)))


def _line(text: str) -> Html:
    return Html(f'<div style="margin:4px 0">{cell(text)}</div>')


def _accuracy(run: Run, number: int) -> str:
    known = tables.accuracy(run)
    known = known[known["round"] <= number]
    if known.empty:
        return "Accuracy of the global model: not measured."
    last = known.iloc[-1]
    return (
        f"Accuracy of the global model: {last['accuracy']:.3f} in round {int(last['round'])} "
        f"({last['source']})."
    )


def _overlap(run: Run) -> Html:
    """Mean IoU of valid client circuits with the global model's, its chance level beside it."""
    means = overlaps.mean_overlap(run)
    if means.empty:
        return Html()
    last = _newest(means)
    shown = last if len(last) <= MOST_LAYERS else last[last["layer"] == tables.ALL_LAYERS]
    lines = [
        [row["layer"], row["path"], float(row["iou"]), float(row["chance"]), int(row["n"])]
        for row in shown.to_dict(orient="records")
    ]
    return table(("layer", "module", "mean IoU", "by chance", "pairs"), lines)


def _grid(run: Run, rows: pd.DataFrame) -> Html:
    last = _newest(rows)
    clients = tables.natural_order([str(name) for name in last["client"].unique()])
    known = {
        (str(client), int(index)): str(word)
        for client, index, word in last[["client", "class", "word"]].itertuples(index=False)
    }
    names = list(run.class_names)
    classes = range(min(len(names), MOST_CLASSES))
    lines = [
        [
            f"client {client}",
            *(chip(_WORDS.get(known.get((client, c), ""), UNKNOWN)) for c in classes),
        ]
        for client in clients[:MOST_CLIENTS]
    ]
    left = [
        counted(n, word)
        for n, word in (
            (len(clients) - MOST_CLIENTS, "client"), (len(names) - MOST_CLASSES, "class"),
        )
        if n > 0
    ]  # fmt: skip
    note = _line(f"{' and '.join(left)} not shown") if left else ""
    return Html(table(("", *(names[c] for c in classes)), lines) + note)
