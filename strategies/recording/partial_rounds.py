"""What is left of a round when a part of it cannot be written: all the rest, and the part named."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedcircuit.records.files import encode, in_short
from fedcircuit.records.rounds import (
    GLOBAL,
    ClientRecord,
    Failure,
    Metric,
    Observation,
    RoundRecord,
    metric_to_json,
    table_to_json,
    value_to_json,
)
from fedcircuit.records.runs import RunStore

logger = logging.getLogger(__name__)

_REFUSED = (AttributeError, OverflowError, RecursionError, TypeError, ValueError)
Arrays = Mapping[str, NDArray[np.generic]]


def recordable(record: RoundRecord) -> RoundRecord:
    """The round without what cannot be written; each part left out is named in it."""
    errors = dict(record.observer_errors)
    observations = {}
    for name, observation in record.observations.items():
        reason = _refused(observation)
        if reason is None:
            observations[name] = observation
        else:
            errors[name] = f"what it saw cannot be recorded: {reason}"
    failures = list(record.failures)
    weights = _writable(record.weights, "the global weights", failures)
    state = _writable(record.state, "the strategy's state", failures)
    return replace(
        record,
        weights=weights,
        state=state,
        clients=tuple(_client(client, failures) for client in record.clients),
        metrics=_metrics(record.metrics, "metric", failures),
        observations=observations,
        observer_errors=errors,
        failures=tuple(failures),
    )


def store_round(
    store: RunStore, record: RoundRecord, gaps: list[RoundRecord], *, strict: bool
) -> list[RoundRecord]:
    """Record a round, and before it, as gaps, those that could not be recorded at their time.

    Returns
    -------
    list of RoundRecord
        Gaps that are left: none, as an error passes with the round added to ``gaps``.

    Raises
    ------
    RunError
        If the disk does not take it; the round is then the last of ``gaps``.
    """
    try:
        while gaps:
            store.append(gaps[0])
            gaps.pop(0)
        try:
            store.append(record)
        except _REFUSED as error:
            if strict:
                raise
            words = "round %d is recorded without the parts that cannot be: %s"
            logger.warning(words, record.round, in_short(error))
            store.append(recordable(record))
    except Exception as error:
        gaps.append(_gap(record, error))
        raise
    return gaps


def _gap(record: RoundRecord, error: Exception) -> RoundRecord:
    """What is recorded of a round later, when it could not be at its time: weights and reason."""
    reason = f"the round could not be recorded at its time: {in_short(error)}"
    failure = Failure(GLOBAL, "record", reason)
    return RoundRecord(record.round, record.weights, failures=(failure,), state=record.state)


def _refused(observation: Observation) -> str | None:
    """Why an observation cannot be written; None where it can."""
    try:
        for table in observation.tables.values():
            table_to_json(table)
        for values in observation.arrays.values():
            encode(np.asarray(values))
    except _REFUSED as error:
        return in_short(error)
    return None


def _client(client: ClientRecord, failures: list[Failure]) -> ClientRecord:
    extra: dict[str, object] = {}
    for key, value in client.extra.items():
        try:
            value_to_json(value)
            extra[key] = value
        except _REFUSED as error:
            extra[key] = f"left out: {in_short(error)}"
    name = f"client {client.client}"
    return replace(
        client,
        weights=_writable(client.weights, name, failures),
        received=_writable(client.received, name, failures),
        metrics=_metrics(client.metrics, f"metric of {name}", failures),
        extra=extra,
    )


def _writable(arrays: Arrays, what: str, failures: list[Failure]) -> dict[str, NDArray[np.generic]]:
    kept = {}
    for name, values in arrays.items():
        try:
            encode(np.asarray(values))
            kept[name] = values
        except _REFUSED as error:
            failures.append(Failure(GLOBAL, "record", f"{name!r} of {what}: {in_short(error)}"))
    return kept


def _metrics(
    metrics: Mapping[str, Metric], what: str, failures: list[Failure]
) -> dict[str, Metric]:
    kept = {}
    for name, value in metrics.items():
        try:
            metric_to_json(value)
            kept[name] = value
        except _REFUSED as error:
            failures.append(Failure(GLOBAL, "record", f"{what} {name!r}: {in_short(error)}"))
    return kept
