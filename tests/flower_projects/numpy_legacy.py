"""The older way: NumPyClients, a strategy of the legacy API, a ``server_fn``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from digits import CLIENTS, probe, samples_of
from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import Metrics, ndarrays_to_parameters
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp
from torch import nn

from fedcircuit import observe


def build() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10)
    )


def get(model: nn.Module) -> list[np.ndarray]:
    return [values.cpu().numpy() for values in model.state_dict().values()]


def put(model: nn.Module, arrays: list[np.ndarray]) -> None:
    names = model.state_dict().keys()
    model.load_state_dict({n: torch.tensor(a) for n, a in zip(names, arrays, strict=True)})


class DigitClient(NumPyClient):
    def __init__(self, partition: int) -> None:
        self.model = build()
        self.images, self.labels = samples_of(partition)

    def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> Any:
        put(self.model, parameters)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        for _ in range(config["epochs"]):
            optimizer.zero_grad()
            loss = F.cross_entropy(self.model(self.images), self.labels)
            loss.backward()
            optimizer.step()
        return get(self.model), len(self.labels), {"train_loss": loss.item()}

    def evaluate(self, parameters: list[np.ndarray], config: dict[str, Any]) -> Any:
        put(self.model, parameters)
        with torch.no_grad():
            logits = self.model(self.images)
        right = float((logits.argmax(1) == self.labels).float().mean())
        return float(F.cross_entropy(logits, self.labels)), len(self.labels), {"accuracy": right}


def client_fn(context: Context) -> Client:
    return DigitClient(int(context.node_config["partition-id"])).to_client()


client = ClientApp(client_fn=client_fn)


def mean_accuracy(metrics: list[tuple[int, Metrics]]) -> Metrics:
    total = sum(n for n, _ in metrics)
    return {"accuracy": sum(n * float(m["accuracy"]) for n, m in metrics) / total}


def server_fn(context: Context) -> ServerAppComponents:
    strategy = FedAvg(
        min_available_clients=CLIENTS,
        on_fit_config_fn=lambda number: {"epochs": 2},
        evaluate_metrics_aggregation_fn=mean_accuracy,
        initial_parameters=ndarrays_to_parameters(get(build())),
    )
    strategy = observe(strategy, model=build(), probe=probe(), run_dir=context.run_config["folder"])
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=2))


server = ServerApp(server_fn=server_fn)
