"""Clients that show what they received and sent, for the tests of LIPS."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Result, Strategy
from torch import nn
from toy_federation import N_CLASSES, N_INPUTS, SortedGrid, arrays_of, data_of, weights_of

from fedcircuit.clients.app import client_app
from fedcircuit.clients.lips import GRADIENT
from fedcircuit.learning.training.local_training import LocalTraining
from fedcircuit.learning.weights import Weights, get_weights

N = 3
MIDDLE = "3.weight"


def build() -> nn.Module:
    """Three linear layers, two batch norms: one weight, of 40 entries, is in the middle."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return nn.Sequential(
            nn.Linear(N_INPUTS, 8), nn.BatchNorm1d(8), nn.ReLU(),
            nn.Linear(8, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, N_CLASSES),
        )  # fmt: skip


def start() -> Weights:
    return get_weights(build())


def typed(weights: Weights) -> Weights:
    """Weights in the model's own dtypes: Flower averages integers as float64."""
    return {name: weights[name].astype(values.dtype) for name, values in start().items()}


class Spied:
    """The package's own clients, with what they received and sent, by round and client."""

    def __init__(self, epochs: int = 1, batch_size: int = 64, **options: Any) -> None:
        training = LocalTraining(epochs=epochs, batch_size=batch_size, lr=0.1)
        honest = client_app(build, data_of, training, n_classes=N_CLASSES, **options)
        self.app = ClientApp()
        self.received: dict[tuple[str, int, int], dict[str, np.ndarray]] = {}
        self.sent: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        self.configs: dict[tuple[str, int, int], dict[str, Any]] = {}
        self.contexts: dict[tuple[int, int], Context] = {}

        def spy(kind: str, message: Message, context: Context) -> Message:
            (arrays,) = message.content.array_records.values()
            (config,) = message.content.config_records.values()
            number, client = int(config["server-round"]), int(context.node_config["partition-id"])
            self.received[kind, number, client] = weights_of(arrays)
            self.configs[kind, number, client] = dict(config)
            reply: Message = honest(message, context)
            if kind == "train":
                (answer,) = reply.content.array_records.values()
                self.sent[number, client] = weights_of(answer)
                self.contexts[number, client] = context
            return reply

        self.app.train()(lambda m, c: spy("train", m, c))
        self.app.evaluate()(lambda m, c: spy("evaluate", m, c))
        self.app.query("fedcircuit")(honest)

    def run(self, strategy: Strategy, rounds: int = 4) -> Result:
        return strategy.start(SortedGrid(self.app, N), arrays_of(start()), num_rounds=rounds)


def averages(result: Spied, number: int) -> dict[str, np.ndarray]:
    """The sample-weighted mean of what clients sent, an independent route to FedAvg's."""
    sizes = np.array([24 + 4 * client for client in range(N)], dtype=np.float64)
    shares = sizes / sizes.sum()
    return {
        name: sum(shares[c] * result.sent[number, c][name].astype(np.float64) for c in range(N))
        for name in result.sent[number, 0]
    }


def del_gradient_before_round_2(clients: Spied, client: int) -> None:
    """Let a client forget, as one that takes part for the first time in round 2."""
    honest = clients.app

    def forgetful(message: Message, context: Context) -> Message:
        (config,) = message.content.config_records.values()
        if config["server-round"] == 2 and context.node_config["partition-id"] == client:
            context.state.pop(GRADIENT, None)
        return honest(message, context)

    app = ClientApp()
    app.train()(forgetful)
    app.evaluate()(honest)
    app.query("fedcircuit")(honest)
    clients.app = app
