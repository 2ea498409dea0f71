"""Rules that help or harm for certain, and a Grid that keeps what was sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import ClassVar

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Strategy
from observing_helpers import N, run
from toy_federation import SortedGrid, arrays_of, initial_weights, toy_app, weights_of

from fedcircuit.aggregation import NO_STATE, Setting, State, Updates
from fedcircuit.learning import Weights
from fedcircuit.strategies import Guard

asking = partial(Guard, held_out=False)  # toy clients have no samples but those they train on


@dataclass(frozen=True)
class Given:
    """Puts given tensors in the place of the average's; after round ``until`` a bias that harms."""

    name: ClassVar[str] = "given"

    weights: Weights
    until: int = 99

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with other tensors."""
        chosen = self.weights if updates.round <= self.until else _harmful()
        changed = {name: v.astype(average[name].dtype) for name, v in chosen.items()}
        return {**average, **changed} if changed else average, NO_STATE


def _harmful() -> Weights:
    return {"3.bias": np.array([100, 0, 0], np.float32)}


def harm() -> Given:
    """A rule after which all samples are taken for class 0."""
    return Given(_harmful())


@cache
def good_weights() -> Weights:
    """Weights far better than those of any of the first rounds."""
    result = run(FedAvg(), rounds=12)
    kinds = {name: values.dtype.kind for name, values in initial_weights().items()}
    return {name: v for name, v in weights_of(result.arrays).items() if kinds[name] == "f"}


def kept(message: Message) -> RecordDict:
    """What a message holds now: strategies write into one config in all rounds."""
    records = dict(message.content.items())
    configs = {key: one.copy() for key, one in message.content.config_records.items()}
    return RecordDict({**records, **configs})


@dataclass
class Counted:
    """A Grid that keeps what was sent, by message type: who, and what."""

    app: ClientApp = field(default_factory=toy_app)
    lose: Callable[[list[Message]], list[Message]] = list
    sent: list[tuple[str, int, RecordDict]] = field(default_factory=list)

    def grid(self) -> SortedGrid:
        outer = self

        class Keeping(SortedGrid):
            def send_and_receive(
                self, messages: Iterable[Message], *, timeout: float | None = None
            ) -> list[Message]:
                asked = list(messages)
                for message in asked:
                    meta = message.metadata
                    outer.sent.append((meta.message_type, meta.dst_node_id, kept(message)))
                return outer.lose(super().send_and_receive(asked, timeout=timeout))

        return Keeping(self.app, N)

    def nodes(self, kind: str) -> list[int]:
        return [node for sort, node, _ in self.sent if sort == kind]


def run_round(strategy: Strategy, grid: SortedGrid, number: int = 1) -> None:
    """Training alone: Flower's own evaluation would trip over what these clients say."""
    arrays = arrays_of(initial_weights())
    sent = strategy.configure_train(number, arrays, ConfigRecord(), grid)
    strategy.aggregate_train(number, grid.send_and_receive(sent))
