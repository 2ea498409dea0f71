"""One round of a federation as values: what observers see and what is written to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning.weights import Weights

Cell = str | int | float | bool | None
GLOBAL = "global"  # identity of the aggregated model beside the clients'


@dataclass(frozen=True)
class Table:
    """Named columns and rows of plain values; an undefined number is NaN."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells for columns {self.columns}: {row}")


@dataclass(frozen=True)
class Observation:
    """What one observer saw in one round: tables for people, arrays for later work."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True)
class ClientRecord:
    """One client's accepted reply.

    Parameters
    ----------
    client
        Stable identity: the partition id as text where known, else the client's own name.
    num_examples
        Training samples behind the update.
    weights
        The client's weights after local training (not the difference).
    metrics
        Plain numbers the client reported.
    extra
        The side channel (``fedcircuit.messages``): packed masks, class counts, versions.
    received
        Tensors that training started from where they were others than those of the global model,
        as after a masked download; empty for a plain one.
    """

    client: str
    num_examples: int
    weights: Weights
    metrics: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    received: Weights = field(default_factory=dict)

    def start(self, before: Weights) -> Weights:
        """Weights that the client's training started from.

        Parameters
        ----------
        before
            Global weights before the round.
        """
        return {**before, **self.received}


@dataclass(frozen=True)
class Failure:
    """A reply that did not enter the average: who, what kind, and the reason in words.

    ``kind`` is one of

    - ``error`` (the client raised), ``lost`` (no reply in time);
    - ``unreadable`` (arrays or records that cannot be decoded), ``names``, ``shape``, ``dtype``
      (weights that do not fit the model), ``metrics`` (others than those of the other clients);
    - ``non-finite``, ``magnitude``, ``count`` (values that are not finite, absurdly large, or no
      count of examples);
    - ``identity`` (a name that is none, another's, or has changed), ``duplicate`` (a second reply),
      ``stranger`` (it answers no message of ours);
    - ``aggregation`` (averaging itself failed), ``record`` (a part of the round, or the round at
      its time, could not be recorded).
    """

    client: str
    kind: str
    reason: str


@dataclass(frozen=True)
class RoundView:
    """What an observer sees: the round, the weights sent and averaged, the accepted clients.

    ``hidden`` are clients whose weights the server never saw (secure aggregation): what they said
    beside them is there, ``weights`` is empty.
    """

    round: int
    before: Weights
    after: Weights
    clients: tuple[ClientRecord, ...]
    hidden: tuple[ClientRecord, ...] = ()

    def start_of(self, client: str) -> Weights:
        """Weights that a client's training started from.

        Raises
        ------
        KeyError
            If the client has no part in the round.
        """
        for record in self.clients:
            if record.client == client:
                return record.start(self.before)
        raise KeyError(f"client {client!r} has no part in round {self.round}")


class Observer(Protocol):
    """Looks at a round after its aggregation; whatever it raises is recorded, never fatal."""

    name: str

    def __call__(self, view: RoundView) -> Observation:
        """What was seen in this round."""
        ...


RETURNED = "returned::"  # and a tensor's name: in a state, what the strategy had returned


@dataclass(frozen=True)
class RoundRecord:
    """Everything recorded of one round; round 0 holds the initial weights alone.

    Parameters
    ----------
    round
        1-based as in Flower.
    weights
        Global weights after the round, in the initial dtypes.
    clients
        Accepted replies, sorted by client.
    metrics
        Aggregated metrics of the round.
    observations
        By observer name.
    failures
        Replies set aside, with a named reason.
    observer_errors
        By observer name, the message of the one that failed.
    seconds
        Wall seconds by stage: ``train``, ``aggregate``, ``observe:NAME``, ``record``.
    state
        The strategy's own state after the round (moments and the like), for resuming.
    """

    round: int
    weights: Weights
    clients: tuple[ClientRecord, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    observations: Mapping[str, Observation] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    observer_errors: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    state: Weights = field(default_factory=dict)
