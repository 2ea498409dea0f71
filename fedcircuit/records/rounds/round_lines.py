"""A round as one line of JSON: everything but its arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fedcircuit.records.rounds.plain_values import (
    Json,
    metrics_from_json,
    metrics_to_json,
    number_from_json,
    number_to_json,
    table_from_json,
    table_to_json,
    value_from_json,
    value_to_json,
)
from fedcircuit.records.rounds.round_record import ClientRecord, Failure, Observation, RoundRecord

_PARTS: dict[str, type] = {
    "round": int,
    "metrics": dict,
    "clients": list,
    "failures": list,
    "seconds": dict,
    "observer_errors": dict,
    "observations": dict,
}
_CLIENT_PARTS: dict[str, type | tuple[type, ...]] = {
    "client": str, "num_examples": (int, float), "metrics": dict, "extra": dict,
}  # fmt: skip


def to_line(payload: Mapping[str, Json]) -> bytes:
    """One line of ASCII, ended by a newline."""
    return json.dumps(payload, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def record_to_json(record: RoundRecord) -> dict[str, Json]:
    """Everything of a round but weights, state and the observers' arrays."""
    return {
        "round": record.round,
        "metrics": metrics_to_json(record.metrics, "metric"),
        "clients": [
            {
                "client": client.client,
                "num_examples": client.num_examples,
                "metrics": metrics_to_json(client.metrics, f"metric of client {client.client}"),
                "extra": {str(key): value_to_json(item) for key, item in client.extra.items()},
            }
            for client in record.clients
        ],
        "failures": [[one.client, one.kind, one.reason] for one in record.failures],
        "seconds": {name: number_to_json(spent) for name, spent in record.seconds.items()},
        "observer_errors": dict(record.observer_errors),
        "observations": {
            observer: {name: table_to_json(table) for name, table in observation.tables.items()}
            for observer, observation in record.observations.items()
        },
    }


def checked_line(line: Json) -> dict[str, Json]:
    """A round's line, where all its parts are of the kinds that readers expect.

    Raises
    ------
    TypeError
        If a part is missing or of another kind; it is named.
    """
    if not isinstance(line, dict):
        raise TypeError(f"expected an object, got {type(line).__name__}")
    for name, kind in _PARTS.items():
        if not isinstance(line.get(name), kind) or isinstance(line[name], bool):
            raise TypeError(f"{name!r} must be of type {kind.__name__}")
    for client in line["clients"]:
        wrong = not isinstance(client, dict) or any(
            not isinstance(client.get(name), kind) for name, kind in _CLIENT_PARTS.items()
        )
        if wrong:
            raise TypeError(f"a client must have {', '.join(_CLIENT_PARTS)}")
    for failure in line["failures"]:
        if not isinstance(failure, list) or list(map(type, failure)) != [str] * 3:
            raise TypeError("a failure must be three texts: client, kind, reason")
    return line


def record_from_json(line: Mapping[str, Json]) -> RoundRecord:
    """A round without arrays from its line."""
    return RoundRecord(
        round=line["round"],
        weights={},
        clients=tuple(
            ClientRecord(
                client=one["client"],
                num_examples=one["num_examples"],
                weights={},
                metrics=metrics_from_json(one["metrics"]),
                extra={key: value_from_json(item) for key, item in one["extra"].items()},
            )
            for one in line["clients"]
        ),
        metrics=metrics_from_json(line["metrics"]),
        observations={
            observer: Observation({name: table_from_json(t) for name, t in tables.items()})
            for observer, tables in line["observations"].items()
        },
        failures=tuple(Failure(*failure) for failure in line["failures"]),
        observer_errors=line["observer_errors"],
        seconds={name: number_from_json(spent) for name, spent in line["seconds"].items()},
    )
