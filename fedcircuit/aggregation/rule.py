"""What an aggregation rule is: a pure function of a round's updates, with state as named arrays.

A rule mends what another strategy has averaged: it takes the weights sent, those that came back
and the average, and gives the weights to go on with. Rules follow each other, each taking what the
one before gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fedcircuit.learning import Weights
from fedcircuit.samples import Samples

Said = bytes | str | int | float | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]
State = Mapping[str, NDArray[np.generic]]  # what a rule remembers between rounds, by name
NO_STATE: State = {}


class RuleError(ValueError):
    """A rule cannot be used on this round: which rule, what it needs, of whom."""

    def __init__(self, rule: str, needs: str, client: str = "") -> None:
        who = f"client {client}: " if client else ""
        super().__init__(f"rule {rule!r} cannot be used: {who}{needs}")
        self.rule, self.needs, self.client = rule, needs, client


@dataclass(frozen=True)
class Update:
    """One client's accepted reply, as rules see it.

    Parameters
    ----------
    client
        Stable identity.
    num_examples
        Training samples behind it; whatever weighs clients where that is something else.
    weights
        After local training.
    said
        What the client said beside its weights, by the keys of ``fedcircuit.messages``, such as
        its class counts.
    start
        What its training started from, where that was not the global model.
    """

    client: str
    num_examples: float
    weights: Weights
    said: Mapping[str, Said] = field(default_factory=dict)
    start: Weights = field(default_factory=dict)


@dataclass(frozen=True)
class Updates:
    """The updates of a round, sorted by client, and the global weights before it."""

    round: int
    before: Weights
    clients: tuple[Update, ...]

    def __post_init__(self) -> None:
        if not self.clients:
            raise ValueError("a round needs at least one update, got none")
        for update in self.clients:
            if odd := sorted(set(update.weights) ^ set(self.before)):
                raise ValueError(
                    f"client {update.client} replied other names than were sent, such as "
                    f"{odd[0]!r}; all replies must have {sorted(self.before)}"
                )

    @property
    def shares(self) -> NDArray[np.float64]:
        """``[clients]``, the clients' shares of all training samples, summing to 1."""
        counts = np.array([update.num_examples for update in self.clients], dtype=np.float64)
        shares: NDArray[np.float64] = counts / counts.sum()
        return shares


@dataclass(frozen=True)
class Setting:
    """What a rule may know beside the updates; what is not given is None.

    Parameters
    ----------
    n_classes
        Classes of the task.
    model
        The network whose weights are averaged; rules load weights into a copy.
    probe
        Labelled samples of the server.
    masks
        ``[clients, classes, units]`` bool: the clients' circuits, in the order of the updates and
        of the model's sites; all False where none is known.
    seed
        Of rules that draw.
    """

    n_classes: int | None = None
    model: nn.Module | None = None
    probe: Samples | None = None
    masks: NDArray[np.bool_] | None = None
    seed: int = 0


class Rule(Protocol):
    """A frozen dataclass whose fields are its options.

    It computes in float64 and gives every tensor the dtype that it had; integer tensors are those
    of ``average`` unless the rule says otherwise. It changes nothing that it is given.
    """

    name: ClassVar[str]

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The weights to go on with, under the names of ``average``, and what to remember.

        Parameters
        ----------
        average
            What the wrapped strategy, or the rule before, made of the updates.
        state
            What this rule returned in the round before; empty in the first.

        Raises
        ------
        RuleError
            If the round lacks what the rule needs.
        """
        ...
