"""What a tracker of experiments is told of a round: numbers by name, and nothing else.

Names are ``global/accuracy``, ``recall/3 cat``, ``overlap/iou`` with ``overlap/chance`` beside it,
``verdicts/preserved``, ``statuses/valid``, ``metrics/NAME`` of the strategy, ``clients/2/NAME`` of
a client's reply, ``replies/accepted`` and ``replies/set aside``; of a list ``NAME/0`` is the first
number. What is not defined is not told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from fedcircuit.circuits.checks import Status
from fedcircuit.circuits.overlap import ALL_LAYERS
from fedcircuit.circuits.verdicts import Verdict
from fedcircuit.records.rounds import GLOBAL, Cell, Metric, Observation, Observer, RoundView

ALL_CLASSES = -1
_PLAIN = re.compile(r"[^\w \-]", re.ASCII)  # every tracker takes these letters in a name


class Tracker(Observer, Protocol):
    """An observer that passes on what the observers before it saw."""

    def finish(self, report: Path | None = None) -> None:
        """Attach the report, where there is one, and close."""
        ...


def require_installed(tracker: str, module: str, packages: str) -> None:
    """Refuse a tracker whose library is not there.

    Raises
    ------
    ImportError
        With the command that installs it.
    """
    if find_spec(module) is None:
        raise ImportError(
            f"the tracker {tracker!r} needs {packages}, which is not installed: "
            "pip install 'fedcircuit[trackers]'"
        )


def kept_id(folder: Path, name: str, made: str | None = None) -> str:
    """An identity that stays in a folder, so that a resumed run goes on under it.

    Parameters
    ----------
    folder, name
        Where, and the file's name.
    made
        What to keep where there is none; None is eight random letters.
    """
    file = folder / name
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(made or uuid4().hex[:8], encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def plain_name(text: object) -> str:
    """A name in letters that every tracker takes; others become their code, as in ``_3c_``."""
    return _PLAIN.sub(lambda found: f"_{ord(found[0]):x}_", str(text)) or "_"


def round_numbers(view: RoundView, class_names: Sequence[str] = ()) -> dict[str, float]:
    """All numbers of a round that are defined, by name.

    Parameters
    ----------
    view
        With what the other observers saw.
    class_names
        By class index; a class without a name is called by its index.
    """
    numbers = dict(_numbers(view, class_names))
    return {name: value for name, value in numbers.items() if isfinite(value)}


def _numbers(view: RoundView, class_names: Sequence[str]) -> Iterator[tuple[str, float]]:
    for row in _rows(view, "evaluation", "accuracy"):
        if row["model"] == GLOBAL and row["class"] == ALL_CLASSES:
            yield "global/accuracy", _number(row["recall"])
            yield "global/loss", _number(row.get("loss"))
        elif row["model"] == GLOBAL:
            yield f"recall/{_class(row['class'], class_names)}", _number(row["recall"])
    yield from _counts(view)
    yield from _overlap(view)
    yield from _reported("metrics", view.metrics)
    clients = (*view.clients, *view.hidden)
    for client in clients:
        where = f"clients/{plain_name(client.client)}"
        yield f"{where}/num_examples", _number(client.num_examples)
        yield from _reported(where, client.metrics)
    yield "replies/accepted", float(len(clients))
    yield "replies/set aside", float(sum(one.client != GLOBAL for one in view.failures))


def _reported(where: str, metrics: Mapping[str, Metric]) -> Iterator[tuple[str, float]]:
    """Metrics that are numbers; of a list each number, by its place."""
    for name, value in metrics.items():
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            for place, part in enumerate(value):
                yield f"{where}/{plain_name(name)}/{place}", _number(part)
        else:
            yield f"{where}/{plain_name(name)}", _number(value)


def _counts(view: RoundView) -> Iterator[tuple[str, float]]:
    """How many pairs of client and class have each verdict and each status, none as 0."""
    verdicts = _rows(view, "circuits", "verdicts")
    if verdicts:
        given = Counter(row["verdict"] for row in verdicts)
        for verdict in Verdict:
            yield f"verdicts/{plain_name(verdict)}", float(given[str(verdict)])
    checks = [row for row in _rows(view, "circuits", "validity") if row["model"] != GLOBAL]
    if checks:
        found = Counter(row["status"] for row in checks)
        for status in Status:
            yield f"statuses/{plain_name(status)}", float(found[str(status)])


def _overlap(view: RoundView) -> Iterator[tuple[str, float]]:
    """Mean over valid client circuits and all layers, the chance level beside it."""
    valid = {
        (row["model"], row["class"])
        for row in _rows(view, "circuits", "validity")
        if row["status"] == Status.VALID
    }
    pairs = [
        row
        for row in _rows(view, "circuits", "overlap")
        if row["layer"] == ALL_LAYERS
        and (row["client"], row["class"]) in valid
        and isfinite(_number(row["iou"]))
    ]
    for name in ("iou", "chance", "adjusted") if pairs else ():
        yield f"overlap/{name}", sum(_number(row[name]) for row in pairs) / len(pairs)


def _rows(view: RoundView, observer: str, table: str) -> list[Mapping[str, Cell]]:
    seen = view.seen.get(observer, Observation()).tables.get(table)
    if seen is None:
        return []
    return [dict(zip(seen.columns, row, strict=True)) for row in seen.rows]


def _class(index: Any, names: Sequence[str]) -> str:
    if 0 <= int(index) < len(names) and names[int(index)] != str(index):
        return f"{index} {plain_name(names[int(index)])}"
    return str(index)


def _number(value: object) -> float:
    return float(value) if isinstance(value, Real) else float("nan")
