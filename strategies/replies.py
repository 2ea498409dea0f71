"""Clients' replies as plain values, whatever API they came by: order and checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedcircuit.learning.weights import Weights
from fedcircuit.records.round_record import Failure


@dataclass(frozen=True)
class Reply:
    """One client's answer; its arrays belong to nobody else.

    Parameters
    ----------
    client
        Stable identity.
    num_examples
        The weight in the average; NaN where the reply has none.
    weights, metrics, extra, received
        As in :class:`fedcircuit.records.round_record.ClientRecord`.
    error
        Kind and reason of a Failure, where there is no usable answer; the rest is then empty.
    """

    client: str
    num_examples: float = float("nan")
    weights: Weights = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    received: Weights = field(default_factory=dict)


def client_order(client: str) -> tuple[str, int]:
    """Sort key of clients: numbers in numeric order, then names, ``node-9`` before ``node-10``."""
    stem = client.rstrip("0123456789")
    return stem, int(client[len(stem) :] or -1)


def fault_of(reply: Reply, sent: Weights) -> Failure | None:
    """Why a reply cannot enter the average; None where it can.

    Parameters
    ----------
    reply
        The answer.
    sent
        The weights the client was sent: its own must have their names and shapes.
    """
    if reply.error is not None:
        return Failure(reply.client, *reply.error)
    missing = [name for name in sent if name not in reply.weights]
    extra = [name for name in reply.weights if name not in sent]
    if missing or extra:
        return Failure(reply.client, "names", f"missing {missing}, unexpected {extra}")
    for name, values in reply.weights.items():
        if values.shape != sent[name].shape:
            reason = f"{name!r} has shape {values.shape}, expected {sent[name].shape}"
            return Failure(reply.client, "shape", reason)
    bad = first_non_finite(reply.weights)
    if bad is not None:
        return Failure(reply.client, "non-finite", f"{bad!r} holds NaN or infinity")
    if not (np.isfinite(reply.num_examples) and reply.num_examples > 0):
        reason = f"the number of examples must be > 0, got {reply.num_examples}"
        return Failure(reply.client, "count", reason)
    return None


def first_non_finite(weights: Weights) -> str | None:
    """Name of the first array that holds NaN or infinity; None where all are finite."""
    for name, values in weights.items():
        if np.issubdtype(values.dtype, np.inexact) and not np.isfinite(values).all():
            return name
    return None
