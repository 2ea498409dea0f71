"""One round of a federation as values: what observers see and what is written to disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning import Weights

Cell = str | int | float | bool | None
Metric = float | str | bytes | Sequence[float]  # lists, such as the accuracy of every class
GLOBAL = "global"  # identity of the aggregated model beside the clients'
NOT_FINITE_LOGITS = "not-finite-logits"  # kind of a Failure


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
class Failure:
    """What went wrong with a client or the global model: who, what kind, and the reason in words.

    ``kind`` is one of

    - ``error`` (the client raised), ``lost`` (no reply in time);
    - ``unreadable`` (arrays or records that cannot be decoded), ``names``, ``shape``, ``dtype``
      (weights that do not fit the model), ``metrics`` (it lacks what most clients
      report; of the global model: no form of metrics was that of more than half);
    - ``non-finite``, ``magnitude``, ``count`` (values that are not finite, absurdly large, or no
      count of examples);
    - ``identity`` (a name that is none, another's, or has changed), ``duplicate`` (a second reply),
      ``stranger`` (it answers no message of ours);
    - ``aggregation`` (averaging itself failed), ``record`` (a part of the round, or the round at
      its time, could not be recorded);
    - ``not-finite-logits`` (weights that are finite, and logits on the probe or the test samples
      that are not: nothing can be measured of this model);
    - ``rule`` (an aggregation rule could not be used: the round went on with what the strategy made
      of it).
    """

    client: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Observation:
    """What one observer saw in one round: tables for people, arrays for later work.

    ``failures`` are models that could not be measured; they join those of the round.
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class ClientRecord:
    """One client's accepted reply.

    Parameters
    ----------
    client
        Stable identity: the partition id as text where known, else the client's own name.
    num_examples
        Training samples behind the update, its weight in the average; whole as a rule.
    weights
        The client's weights after local training (not the difference).
    metrics
        What the client reported, as it came: mostly numbers, and lists of them.
    extra
        The side channel (``fedcircuit.messages``): packed masks, class counts, versions.
    received
        Tensors that training started from where they were others than those of the global model,
        as after a masked download; empty for a plain one.
    """

    client: str
    num_examples: int | float
    weights: Weights
    metrics: Mapping[str, Metric] = field(default_factory=dict)
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
class RoundView:
    """What an observer sees: the round, the weights sent and averaged, the accepted clients.

    ``hidden`` are clients whose weights the server never saw (secure aggregation): what they said
    beside them is there, ``weights`` is empty. ``metrics`` and ``failures`` are those of the round;
    ``seen`` is what the observers before this one saw, by their names.
    """

    round: int
    before: Weights
    after: Weights
    clients: tuple[ClientRecord, ...]
    hidden: tuple[ClientRecord, ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    seen: Mapping[str, Observation] = field(default_factory=dict)

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
    """Looks at a round after its aggregation; whatever it raises is recorded, never fatal.

    One that loads the weights into a model may say so by an attribute ``needs_model = True``: it is
    left out, with the reason, where clients keep a part of the model for themselves. Where a model
    was given to ``observe``, weights have the model's names, however they are exchanged.
    """

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
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    observations: Mapping[str, Observation] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    observer_errors: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    state: Weights = field(default_factory=dict)
