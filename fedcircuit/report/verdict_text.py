"""The verdict of a run in words, for the terminal and the top of the page."""

from __future__ import annotations

import pandas as pd

from fedcircuit.records.run import Run
from fedcircuit.report import tables

_MOST_NAMED = 4


def headline(run: Run) -> str:
    """What averaging did by the last observed round, with accuracy beside it."""
    if not run.rounds:
        return "No round is recorded yet."
    sentences = [_verdicts(run), _accuracy(run)]
    if len(run.failures):
        n = len(run.failures)
        sentences.append(f"{n} {_plural(n, 'reply', 'replies')} could not enter the average.")
    return " ".join(sentence for sentence in sentences if sentence)


def _verdicts(run: Run) -> str:
    counts = tables.verdict_counts(run)
    if not len(counts):
        return "No circuits were looked for."
    last = counts.iloc[-1]
    number = int(last["round"])
    valid = int(last["valid"])
    total = valid + int(last["undiscovered"]) + int(last["not_learned"]) + int(last["absent"])
    if valid == 0:
        return (
            f"In round {number} no client's circuit passed the checks ({total} looked at: "
            f"{last['undiscovered']} undiscovered, {last['not_learned']} not learned, "
            f"{last['absent']} absent), so nothing can be said of averaging."
        )
    fate = ", ".join(
        f"{int(last[name])} {text}"
        for name, text in (
            ("relocated", "relocated to other units"),
            ("degraded", "degraded"),
            ("collapsed", "collapsed"),
        )
        if int(last[name])
    )
    text = (
        f"Averaging preserved {int(last['preserved'])} of {valid} valid circuits in round {number}"
        + (f"; {fate}." if fate else ".")
    )
    others = (
        f"A circuit was valid in {valid} of {total} client-class pairs "
        f"({last['undiscovered']} undiscovered, {last['not_learned']} not learned, "
        f"{last['absent']} absent)."
    )
    return " ".join(part for part in (text, _worst(run, number), others) if part)


def _worst(run: Run, number: int) -> str:
    """Which classes collapsed, in whom, since when."""
    table = run.table("verdicts")
    now = table[(table["round"] == number) & (table["verdict"] == "collapsed")]
    named = [
        f"{run.class_names[int(index)]} of client {client} (since round "
        f"{_since(table, client, int(index), number)})"
        for client, index in now[["client", "class"]].itertuples(index=False)
    ]
    if not named:
        return ""
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return f"Collapsed: {', '.join(named[:_MOST_NAMED])}{more}."


def _since(table: pd.DataFrame, client: object, index: int, number: int) -> int:
    """First of the latest unbroken sequence of rounds with this verdict."""
    mine = table[(table["client"] == client) & (table["class"] == index)].sort_values("round")
    since = number
    for seen, verdict in mine[["round", "verdict"]].iloc[::-1].itertuples(index=False):
        if verdict != "collapsed":
            break
        since = int(seen)
    return since


def _accuracy(run: Run) -> str:
    table = tables.accuracy(run)
    if not len(table):
        return ""
    last = table.iloc[-1]
    return f"Accuracy of the global model: {last['accuracy']:.3f} in round {int(last['round'])}."


def _plural(n: int, one: str, many: str) -> str:
    return one if n == 1 else many
