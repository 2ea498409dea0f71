"""Weights and replies as they are recorded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning import Weights
from fedcircuit.records.rounds import ClientRecord
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies.replies import Reply


def read_only(weights: Weights) -> dict[str, NDArray[np.generic]]:
    """The same arrays, which nobody may write to any more: observers share them with the record."""
    for values in weights.values():
        values.flags.writeable = False
    return dict(weights)


def in_dtype(values: NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """A copy in another dtype, rounded where that holds integers or booleans."""
    if dtype.kind in "iub" and values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # NaN has no integer; it is reported elsewhere
            return np.asarray(np.rint(values)).astype(dtype)
    return values.astype(dtype)


def client_record(reply: Reply) -> ClientRecord:
    """A reply as it is recorded; a number of examples that is not whole stays what it is."""
    count = float(reply.num_examples)
    return ClientRecord(
        client=reply.client,
        num_examples=int(count) if count.is_integer() else count,
        weights=read_only(reply.weights),
        metrics=dict(reply.metrics),
        extra=dict(reply.extra),
        received=read_only(reply.received),
    )


def last_dtypes(store: RunStore | None, offset: int) -> dict[str, np.dtype[np.generic]]:
    """Initial dtypes of a run that goes on; empty for a new one."""
    if store is None:
        return {}
    done = max(store.rounds(), default=0)
    if done != offset:
        raise ValueError(
            f"{store.path} has rounds up to {done}, the offset is {offset}; to go on pass "
            f"RecorderOptions(round_offset={done}), to start anew choose another folder"
        )
    if offset == 0:
        return {}
    return {name: values.dtype for name, values in store.read(offset).weights.items()}
