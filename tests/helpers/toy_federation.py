"""A federation small enough for a test: a few hundred numbers, three classes, a second at most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from torch import nn

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.clients.app import client_app
from fedcircuit.learning.training.local_training import LocalTraining
from fedcircuit.learning.weights import Weights, get_weights
from fedcircuit.records.rounds.round_record import Observation, RoundView, Table
from fedcircuit.samples import Samples

N_CLASSES = 3
N_INPUTS = 6


def build_net() -> nn.Module:
    """Linear, batch norm (an integer buffer!), ReLU, linear: 71 numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Linear(N_INPUTS, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, N_CLASSES)
        )


def samples_of(client: int, size: int = 24) -> Samples:
    """Samples of a client; every client has others, and another number of them."""
    generator = torch.Generator().manual_seed(100 + client)
    labels = torch.arange(size + 4 * client) % N_CLASSES
    centres = 2.0 * torch.eye(N_CLASSES, N_INPUTS)
    noise = torch.randn(len(labels), N_INPUTS, generator=generator)
    return Samples(centres[labels] + noise, labels)


def data_of(context: Context) -> Samples:
    """Samples of the client that a context describes."""
    return samples_of(int(context.node_config["partition-id"]))


def toy_app(*, steps: int | None = None, **options: object) -> ClientApp:
    """The package's own ClientApp on the toy data: two epochs of training, or some steps."""
    training = LocalTraining(epochs=None if steps else 2, steps=steps, batch_size=8, lr=0.1)
    return client_app(build_net, data_of, training, n_classes=N_CLASSES, **options)  # type: ignore[arg-type]


def initial_weights() -> Weights:
    """Weights of round 0."""
    return get_weights(build_net())


def arrays_of(weights: Weights) -> ArrayRecord:
    """Weights as a message carries them."""
    return ArrayRecord({name: Array(np.asarray(values)) for name, values in weights.items()})


def weights_of(arrays: Mapping[str, Array]) -> dict[str, NDArray[np.generic]]:
    """Weights out of a message."""
    return {name: array.numpy() for name, array in arrays.items()}


def bits(weights: Weights) -> dict[str, tuple[str, bytes]]:
    """Weights such that equality means equality of every bit, dtypes included."""
    return {name: (str(values.dtype), values.tobytes()) for name, values in weights.items()}


class SortedGrid(InProcessGrid):
    """Replies in the order of the nodes: a strategy that nobody observes sums in their order."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Replies sorted by node."""
        replies = super().send_and_receive(messages, timeout=timeout)
        return sorted(replies, key=lambda reply: reply.metadata.src_node_id)


@dataclass
class Witness:
    """An observer that keeps what it saw."""

    name: str = "witness"
    views: list[RoundView] = field(default_factory=list)

    def __call__(self, view: RoundView) -> Observation:
        self.views.append(view)
        return Observation(
            {"seen": Table(("round", "clients"), ((view.round, len(view.clients)),))}
        )


@dataclass
class Saboteur:
    """An observer that always raises, after damaging all that it can reach."""

    name: str = "saboteur"

    def __call__(self, view: RoundView) -> Observation:
        for weights in (view.before, view.after, *(client.weights for client in view.clients)):
            for values in weights.values():
                values[...] = 0
        raise OSError("nothing works today")


def node_ids(order: Sequence[int]) -> list[int]:
    """Large node ids, in an order unlike that of the partitions, as other engines have them."""
    return [10_000 - 37 * place for place in order]
