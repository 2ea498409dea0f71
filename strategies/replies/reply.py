"""Clients' replies as plain values, whatever API they came by: order and checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedcircuit.learning import Weights
from fedcircuit.records.rounds import Failure, Metric
from fedcircuit.strategies.replies.limits import short

LEAST_COUNT = 1e-9  # below this a client's weight in the average is an accident


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
        As in :class:`fedcircuit.records.rounds.ClientRecord`.
    error
        Kind and reason of a Failure, where there is no usable answer; the rest is then empty.
    form
        Name and length (0: a single number) of every metric, where the strategy needs all replies
        to be alike in that.
    """

    client: str
    num_examples: float = float("nan")
    weights: Weights = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    received: Weights = field(default_factory=dict)
    form: frozenset[tuple[str, int]] | None = None


def client_order(client: str) -> tuple[str, int]:
    """Sort key of clients: numbers in numeric order, then names, ``node-9`` before ``node-10``."""
    stem = client.rstrip("0123456789")
    return stem, int(client[len(stem) :] or -1)


@dataclass(frozen=True)
class Limits:
    """Beyond these, finite values are absurd; None is no limit."""

    num_examples: float | None = None
    abs_weight: float | None = None


NO_LIMITS = Limits()


def fault_of(
    reply: Reply,
    sent: Weights,
    limits: Limits = NO_LIMITS,
    initial: Mapping[str, np.dtype[np.generic]] | None = None,
) -> Failure | None:
    """Why a reply cannot enter the average; None where it can.

    Parameters
    ----------
    reply
        The answer.
    sent
        The weights the client was sent: its own must have their names, shapes and kinds of numbers.
    limits
        What is too large.
    initial
        Dtypes of the run's initial weights: averages of integers are sent as floats, and come back
        as integers. Left out: those sent.
    """
    if reply.error is not None:
        return Failure(reply.client, *reply.error)
    missing = [name for name in sent if name not in reply.weights]
    extra = [name for name in reply.weights if name not in sent]
    if len(extra) == len(reply.weights) != len(sent) and all(map(str.isdecimal, extra)):
        reason = f"it sent {len(extra)} arrays without names, {len(sent)} are expected"
        return Failure(reply.client, "names", reason)
    if missing or extra:
        return Failure(reply.client, "names", short(f"missing {missing}, unexpected {extra}"))
    for name, values in reply.weights.items():
        if values.shape != sent[name].shape:
            reason = f"{name!r} has shape {values.shape}, expected {sent[name].shape}"
            return Failure(reply.client, "shape", short(reason))
        own = (initial or {}).get(name, sent[name].dtype)
        if not same_kind(values.dtype, own):
            reason = f"{name!r} has dtype {values.dtype}, the model's is {own}"
            return Failure(reply.client, "dtype", short(reason))
    bad = first_non_finite(reply.weights)
    if bad is not None:
        return Failure(reply.client, "non-finite", f"{bad!r} holds NaN or infinity")
    return _too_large(reply, limits)


def _too_large(reply: Reply, limits: Limits) -> Failure | None:
    count = reply.num_examples
    if not (np.isfinite(count) and count >= LEAST_COUNT):
        reason = f"the number of examples must be > 0, got {count}"
        return Failure(reply.client, "count", reason)
    if limits.num_examples is not None and count > limits.num_examples:
        reason = f"{count:g} examples are more than max_num_examples = {limits.num_examples:g}"
        return Failure(reply.client, "count", reason)
    if limits.abs_weight is None:
        return None
    for name, values in reply.weights.items():
        largest = float(np.max(np.abs(values), initial=0)) if values.dtype.kind in "fc" else 0.0
        if largest > limits.abs_weight:
            reason = (
                f"{name!r} holds a value of size {largest:.3g}, above max_abs_weight = "
                f"{limits.abs_weight:g}"
            )
            return Failure(reply.client, "magnitude", reason)
    return None


def same_kind(reply: np.dtype[np.generic], sent: np.dtype[np.generic]) -> bool:
    """Whether numbers of one dtype can stand for the other in an average.

    Any float stands for a float, whatever its width and byte order. Integers and booleans come
    back as they are or, from strategies that average them, as floats.
    """
    if sent.kind == "f":
        return reply.kind == "f"
    if sent.kind == "c":
        return reply.kind in "fc"
    return reply.kind in "biuf"


def odd_ones(replies: Sequence[Reply]) -> dict[int, Failure]:
    """Positions of the replies whose metrics are of another form than those of most.

    Flower's strategies average metrics by name and end the run where replies differ. Of two forms
    that are equally frequent, that of the first client counts.
    """
    forms = Counter(reply.form for reply in replies if reply.form is not None)
    if len(forms) < 2:
        return {}
    usual = forms.most_common(1)[0][0]
    assert usual is not None
    faults = {}
    for index, reply in enumerate(replies):
        if reply.form is not None and reply.form != usual:
            lacks = sorted(name for name, _ in usual - reply.form)
            adds = sorted(name for name, _ in reply.form - usual)
            reason = f"its metrics differ from those of the others: missing {lacks}, more {adds}"
            faults[index] = Failure(reply.client, "metrics", short(reason))
    return faults


def first_non_finite(weights: Weights) -> str | None:
    """Name of the first array that holds NaN or infinity; None where all are finite."""
    for name, values in weights.items():
        if np.issubdtype(values.dtype, np.inexact) and not np.isfinite(values).all():
            return name
    return None
