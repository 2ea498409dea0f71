"""Rounds as lines of JSON: tables by columns and rows, undefined numbers as null."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

from fedcircuit.records.round_record import Cell, Failure, RoundRecord, Table


def plain(value: object) -> Any:
    """A value that JSON can hold: NaN and infinities become null, NumPy scalars plain ones."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        raise TypeError("bytes do not go into a line of JSON; store them as an array")
    item = getattr(value, "item", None)
    if callable(item) and not isinstance(value, (str, int, float, bool)):
        value = item()
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def measured(value: Cell) -> Cell:
    """A cell for a table: measurements to nine significant digits, undefined as null."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if isfinite(value) else None
    return value


def round_line(record: RoundRecord) -> dict[str, Any]:
    """Everything of a round but its arrays."""
    return {
        "round": record.round,
        "metrics": plain(record.metrics),
        "clients": [
            {
                "client": client.client,
                "num_examples": client.num_examples,
                "metrics": plain(client.metrics),
                "extra": plain({k: v for k, v in client.extra.items() if not isinstance(v, bytes)}),
            }
            for client in record.clients
        ],
        "observations": {
            name: {
                table: {
                    "columns": list(content.columns),
                    "rows": [[measured(cell) for cell in row] for row in content.rows],
                }
                for table, content in observation.tables.items()
            }
            for name, observation in record.observations.items()
        },
        "failures": [[f.client, f.kind, f.reason] for f in record.failures],
        "observer_errors": dict(record.observer_errors),
        "seconds": {name: round(value, 4) for name, value in record.seconds.items()},
    }


def encode(line: Mapping[str, Any]) -> bytes:
    """One line, ended by a newline."""
    return json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def tables_of(line: Mapping[str, Any]) -> dict[str, dict[str, Table]]:
    """Tables by observer and name; null cells are None."""
    return {
        observer: {
            name: Table(tuple(raw["columns"]), tuple(tuple(row) for row in raw["rows"]))
            for name, raw in tables.items()
        }
        for observer, tables in line["observations"].items()
    }


def failures_of(line: Mapping[str, Any]) -> tuple[Failure, ...]:
    """The failures of a round."""
    return tuple(Failure(*failure) for failure in line["failures"])
