"""Federations of the legacy API in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flwr.app import Context
from flwr.client import Client
from flwr.clientapp import ClientApp
from flwr.common import parameters_to_ndarrays
from flwr.server import Server, ServerConfig, SimpleClientManager
from flwr.server.compat import start_grid
from flwr.server.strategy import Strategy
from toy_federation import N_CLASSES, bits, build_net, initial_weights, samples_of

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.clients.bridge import numpyclient_mod
from fedcircuit.clients.sparse_client import SparseClient
from fedcircuit.learning.training.local_training import LocalTraining

NAMES = list(initial_weights())


def sparse(context: Context) -> Client:
    """Our NumPyClient on the toy data."""
    return sparse_client(context, LocalTraining(batch_size=8))


def sparse_client(context: Context, training: LocalTraining) -> Client:
    """The same, trained otherwise."""
    partition = int(context.node_config["partition-id"])
    return SparseClient(
        build_net(), samples_of(partition), training, n_classes=N_CLASSES, client=partition
    ).to_client()


def sorting(base: type) -> type:
    """A bare strategy that sums in the order of the nodes, as futures come in any."""

    class Sorting(base):  # type: ignore[misc]
        def aggregate_fit(self, number: int, results: list, failures: list) -> Any:
            results = sorted(results, key=lambda result: result[0].node_id)
            return super().aggregate_fit(number, results, failures)

        def aggregate_evaluate(self, number: int, results: list, failures: list) -> Any:
            results = sorted(results, key=lambda result: result[0].node_id)
            return super().aggregate_evaluate(number, results, failures)

    return Sorting


def run(
    strategy: Strategy, client_fn: Callable[[Context], Client] = sparse, *, n: int = 4,
    rounds: int = 2,
) -> Any:  # fmt: skip
    """Final weights, bit by bit, and losses."""
    weights, losses = run_weights(strategy, client_fn, n=n, rounds=rounds)
    return bits(weights), losses


def run_weights(
    strategy: Strategy, client_fn: Callable[[Context], Client] = sparse, *, n: int = 4,
    rounds: int = 2,
) -> Any:  # fmt: skip
    """Final weights and losses."""
    app = ClientApp(client_fn=client_fn, mods=[numpyclient_mod])
    server = Server(client_manager=SimpleClientManager(), strategy=strategy)
    history = start_grid(
        grid=InProcessGrid(app, n), server=server, config=ServerConfig(num_rounds=rounds)
    )
    weights = dict(zip(NAMES, parameters_to_ndarrays(server.parameters), strict=True))
    return weights, history.losses_distributed
