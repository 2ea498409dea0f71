"""What ``fedcircuit what-if`` asks of a run, and what a terminal shows of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Protocol

from fedcircuit.aggregation.named import RULE_NAMES
from fedcircuit.app.config import ConfigError
from fedcircuit.app.mending.known import MOST_SAMPLES
from fedcircuit.app.mending.verdicts import OUTCOMES
from fedcircuit.app.mending.what_if import RECORDED, Measured, WhatIf, what_if
from fedcircuit.records.runs import Run

FOOT = (
    "one step ahead: each rule starts from the recorded weights before the round; kept: pairs of "
    "client and class that the client's own model recognises and the new model still does"
)
JUDGED = (
    "verdicts: valid circuits of the clients, as recorded, judged in the new model: preserved, "
    "relocated, degraded, collapsed, undecided"
)
_WIDTH = 22  # of a rule's name


class Voice(Protocol):
    """What says lines to a person."""

    def say(self, line: str) -> None:
        """One line."""
        ...

    def last(self, line: str) -> None:
        """The last line, said however quiet it is to be."""
        ...


@dataclass(frozen=True)
class Rounds:
    """Which rounds a command names; nothing named is the last one.

    Parameters
    ----------
    one, some
        A round; or several, as ``1,4``.
    last
        The last one, by name.
    every
        All that this divides.
    """

    one: int | None = None
    some: str | None = None
    last: bool = False
    every: int | None = None

    def of(self, run: Run) -> list[int] | None:
        """The rounds; None is the last.

        Raises
        ------
        ConfigError
            If they are named in two ways, or in none that the run has.
        """
        ways = {
            "--round": self.one is not None,
            "--rounds": self.some is not None,
            "--last": self.last,
            "--every": self.every is not None,
        }
        named = [way for way, is_there in ways.items() if is_there]
        if len(named) > 1:
            raise ConfigError(f"name rounds in one way, got {' and '.join(named)}")
        if self.one is not None:
            return [self.one]
        if self.some is not None:
            return _numbers(self.some)
        return None if self.every is None else self._divided(run, self.every)

    def _divided(self, run: Run, every: int) -> list[int]:
        if every < 1:
            raise ConfigError(f"--every expects a number >= 1, got {every}")
        found = [number for number in run.rounds if number % every == 0]
        if not found:
            has = f"rounds 1 to {run.rounds[-1]}" if run.rounds else "no round"
            raise ConfigError(f"{run.path} has {has}, none that {every} divides (--every)")
        return found


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--rounds expects numbers such as 1,4,8, got {text!r}")
    return [int(part) for part in parts]


def asked_for(
    path: Path,
    rules: str | None = None,
    rounds: Rounds | None = None,
    *,
    verdicts: bool = True,
    samples: int | None = None,
) -> WhatIf:
    """What a command asks for.

    Parameters
    ----------
    path
        The run's folder.
    rules, rounds
        Names such as ``ccvr,ties``, and which rounds.
    verdicts
        As for `fedcircuit.app.mending.what_if`.
    samples
        Most test samples; 0 is all, None the default.

    Raises
    ------
    ConfigError
        If a round is no number, or a rule is unknown.
    RunError
        As `fedcircuit.app.mending.what_if`.
    """
    names = None if rules is None else [name.strip() for name in rules.split(",") if name.strip()]
    if names is not None and not names:
        raise ConfigError(f"--rules expects some of {', '.join(RULE_NAMES)}")
    run = Run.load(path)
    numbers = (rounds or Rounds()).of(run)
    most = MOST_SAMPLES if samples is None else samples or None
    try:
        return what_if(run, names, rounds=numbers, verdicts=verdicts, samples=most)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def tell(found: WhatIf, voice: Voice, csv: Path | None = None, *, by_class: bool = False) -> None:
    """A line a rule, best worst-class recall first; what could not be used comes last."""
    judged = any(row.verdicts for row in found.rows)
    for number in dict.fromkeys(row.round for row in found.rows):
        for line in _table(found, number, judged=judged, by_class=by_class):
            voice.say(line)
    chance = 1 / len(found.class_names) if found.class_names else float("nan")
    voice.say(
        f"{FOOT}; accuracy by chance: {chance:.3f}; measured on {found.n_test} of "
        f"{found.of_test} test samples"
    )
    if judged:
        voice.say(JUDGED)
    for number, why in found.unjudged.items():
        voice.say(f"no verdicts in round {number}: {why}")
    if csv is not None:
        found.table().to_csv(csv, index=False)
        voice.last(f"table: {csv}")
        return
    voice.last(_best(found.rows))


def _best(rows: Sequence[Measured]) -> str:
    used = [row for row in rows if not row.lacks and row.rule != RECORDED]
    used = [row for row in used if not isnan(row.worst_recall)]
    if not used:
        return "no rule gave a model whose recall could be measured"
    best = max(used, key=lambda row: (row.worst_recall, row.accuracy))
    return f"best worst-class recall: {best.worst_recall:.3f} by {best.rule} in round {best.round}"


def _table(found: WhatIf, number: int, *, judged: bool, by_class: bool) -> list[str]:
    heads = ["accuracy", "worst class", "kept".ljust(9)]
    if judged:
        heads.append(" ".join(f"{outcome[:4]:>4}" for outcome in OUTCOMES))
    if by_class:
        heads += [f"{name:>5.5}" for name in found.class_names]
    heads.append("seconds".rjust(8))
    start = f"round {number}".ljust(_WIDTH + 2)
    rows = sorted((row for row in found.rows if row.round == number), key=_place)
    lines = [f"{start} {'  '.join(heads)}"]
    return [*lines, *(_line(row, judged=judged, by_class=by_class) for row in rows)]


def _place(row: Measured) -> tuple[bool, float, float]:
    defined = 0.0 if isnan(row.worst_recall) else row.worst_recall
    return bool(row.lacks), -defined, -row.accuracy if not isnan(row.accuracy) else 0.0


def _line(row: Measured, *, judged: bool, by_class: bool) -> str:
    name = f"  {row.rule:<{_WIDTH}}"
    if row.lacks:
        return f"{name} not used: {row.lacks}"
    cells = [
        f"{row.accuracy:8.3f}",
        f"{row.worst_recall:11.3f}",
        f"{row.kept}/{row.learned}".ljust(9),
    ]
    if judged:
        counts = [row.verdicts.get(outcome, "-") for outcome in OUTCOMES]
        cells.append(" ".join(f"{count:>4}" for count in counts))
    if by_class:
        cells += [f"{recall:5.2f}" for recall in row.recall]
    cells.append(f"{'' if isnan(row.seconds) else f'{row.seconds:.3f}':>8}")
    return f"{name} {'  '.join(cells)}" + (f"  = {row.same}" if row.same else "")
