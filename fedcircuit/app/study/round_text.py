"""A round of a run as one line, for a terminal or a log."""

from __future__ import annotations

from collections import Counter
from math import isnan

from fedcircuit.records.rounds import RoundRecord, Table


def round_line(record: RoundRecord, rounds: int) -> str:
    """One round in a line: accuracy, circuits, verdicts, failures, seconds."""
    parts = [f"round {record.round}/{rounds}"]
    accuracy = _accuracy(record)
    if accuracy is not None:
        parts.append(f"accuracy {accuracy:.3f}")
    observation = record.observations.get("circuits")
    if observation is not None and "validity" in observation.tables:
        statuses = Counter(_column(observation.tables["validity"], "status"))
        parts.append(f"valid circuits {statuses['valid']}/{sum(statuses.values())}")
    if observation is not None and "verdicts" in observation.tables:  # not without a probe
        verdicts = Counter(v for v in _column(observation.tables["verdicts"], "verdict") if v)
        parts += [f"{verdict} {count}" for verdict, count in sorted(verdicts.items())]
    parts += [f"observer {name} failed: {error}" for name, error in record.observer_errors.items()]
    if record.failures:
        who = ", ".join(f"{failure.client} ({failure.kind})" for failure in record.failures)
        parts.append(f"set aside: {who}")
    parts.append(f"{sum(record.seconds.values()):.1f} s")
    return "  ".join(parts)


def _accuracy(record: RoundRecord) -> float | None:
    observation = record.observations.get("evaluation")
    if observation is None or "accuracy" not in observation.tables:
        return None
    table = observation.tables["accuracy"]
    for row in table.rows:
        cells = dict(zip(table.columns, row, strict=True))
        if cells["class"] == -1 and cells["model"] == "global":
            value = cells["recall"]
            return value if isinstance(value, float) and not isnan(value) else None
    return None


def _column(table: Table, name: str) -> list[str]:
    index = table.columns.index(name)
    return [str(row[index]) for row in table.rows if row[index] is not None]
