"""Strategies, runs and outcomes for the tests of observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, FedMedian, FedProx, Krum, Result, Strategy
from toy_federation import (
    SortedGrid,
    arrays_of,
    bits,
    initial_weights,
    toy_app,
    weights_of,
)

from fedcircuit.learning.weights import Weights
from fedcircuit.records.rounds.round_record import RoundRecord
from fedcircuit.strategies.recording.recorder import RoundRecorder

N = 5
STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "FedAvg": FedAvg,
    "FedAvgM": lambda: flower.FedAvgM(server_momentum=0.5),
    "FedProx": lambda: FedProx(proximal_mu=0.1),
    "FedAdam": flower.FedAdam,
    "FedYogi": flower.FedYogi,
    "FedAdagrad": flower.FedAdagrad,
    "FedMedian": FedMedian,
    "FedTrimmedAvg": flower.FedTrimmedAvg,
    "Krum": lambda: Krum(num_malicious_nodes=1),
    "MultiKrum": lambda: flower.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3),
    "Bulyan": flower.Bulyan,
    "DP fixed": lambda: flower.DifferentialPrivacyServerSideFixedClipping(
        FedAvg(), noise_multiplier=0.1, clipping_norm=0.5, num_sampled_clients=N
    ),
    "DP adaptive": lambda: flower.DifferentialPrivacyServerSideAdaptiveClipping(
        FedAvg(), noise_multiplier=0.1, num_sampled_clients=N
    ),
}


def floats() -> Weights:
    """Weights without the integer buffer, at which QFedAvg raises."""
    return {name: w for name, w in initial_weights().items() if w.dtype.kind == "f"}


def run(
    strategy: Strategy, grid: Grid | None = None, *, rounds: int = 3, weights: Weights | None = None
) -> Result:
    np.random.seed(3)  # server-side noise comes from NumPy's global state
    return strategy.start(
        SortedGrid(toy_app(), N) if grid is None else grid,
        arrays_of(initial_weights() if weights is None else weights),
        num_rounds=rounds,
    )


def outcome(result: Result) -> tuple[object, ...]:
    return (
        bits(weights_of(result.arrays)),
        {r: dict(m) for r, m in result.train_metrics_clientapp.items()},
        {r: dict(m) for r, m in result.evaluate_metrics_clientapp.items()},
    )


def app_of(train: Callable[[Message, Context], Message]) -> ClientApp:
    app, honest = ClientApp(), toy_app()
    app.train()(train)
    app.evaluate()(honest)
    app.query("fedcircuit")(honest)
    return app


def recorder_of(strategy: Any) -> RoundRecorder:
    """The recorder of an observed strategy."""
    recorder: RoundRecorder = strategy.fedcircuit_hooks.recorder
    return recorder


def last_record(strategy: Any) -> RoundRecord:
    """The latest round that an observed strategy has recorded."""
    store = recorder_of(strategy).store
    assert store is not None
    record = store.last()
    assert record is not None
    return record
