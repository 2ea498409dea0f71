"""The command ``fedcircuit what-if``: what is asked of a run, and what a terminal shows of it."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Protocol

from fedcircuit.aggregation.named import RULE_NAMES
from fedcircuit.app.config import ConfigError
from fedcircuit.app.mending.what_if import RECORDED, Measured, WhatIf, what_if

FOOT = (
    "one step ahead: each rule starts from the recorded weights before the round; kept: pairs of "
    "client and class that the client's own model recognises and the new model still does"
)


class Voice(Protocol):
    """What says lines to a person."""

    def say(self, line: str) -> None:
        """One line."""
        ...

    def last(self, line: str) -> None:
        """The last line, said however quiet it is to be."""
        ...


def asked_for(run: Path, rules: str | None, rounds: str | None) -> WhatIf:
    """The rules and rounds of a command, as ``ccvr,ties`` and ``1,4``.

    Raises
    ------
    ConfigError
        If a round is no number, or a rule is unknown.
    """
    names = None if rules is None else [name.strip() for name in rules.split(",") if name.strip()]
    numbers = None
    if rounds is not None:
        parts = [part.strip() for part in rounds.split(",")]
        if not all(part.isdecimal() for part in parts):
            raise ConfigError(f"--rounds expects numbers such as 1,4,8, got {rounds!r}")
        numbers = [int(part) for part in parts]
    if names is not None and not names:
        raise ConfigError(f"--rules expects some of {', '.join(RULE_NAMES)}")
    try:
        return what_if(run, names, rounds=numbers)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def tell(found: WhatIf, voice: Voice, csv: Path | None = None) -> None:
    """A line a rule, best worst-class recall first; what could not be used comes last."""
    for number in dict.fromkeys(row.round for row in found.rows):
        voice.say(f"round {number}{'':<18} accuracy  worst class  kept       seconds")
        rows = [row for row in found.rows if row.round == number]
        for row in sorted(rows, key=_place):
            voice.say(_line(row))
    chance = 1 / len(found.class_names) if found.class_names else float("nan")
    voice.say(f"{FOOT}; accuracy by chance: {chance:.3f}")
    if csv is not None:
        found.table().to_csv(csv, index=False)
        voice.last(f"table: {csv}")
        return
    used = [row for row in found.rows if not row.lacks and row.rule != RECORDED]
    best = max(used, key=lambda row: (row.worst_recall, row.accuracy))
    voice.last(
        f"best worst-class recall: {best.worst_recall:.3f} by {best.rule} in round {best.round}"
    )


def _place(row: Measured) -> tuple[bool, float, float]:
    defined = 0.0 if isnan(row.worst_recall) else row.worst_recall
    return bool(row.lacks), -defined, -row.accuracy if not isnan(row.accuracy) else 0.0


def _line(row: Measured) -> str:
    if row.lacks:
        return f"  {row.rule:<22} not used: {row.lacks}"
    seconds = "" if isnan(row.seconds) else f"{row.seconds:.3f}"
    kept = f"{row.kept}/{row.learned}"
    return f"  {row.rule:<22} {row.accuracy:8.3f}  {row.worst_recall:11.3f}  {kept:<9} {seconds:>8}"
