"""What the in-process engine costs: a federation through Flower's messages against a plain loop.

100 clients, an MLP 784-64-10, 600 samples each, batch 64, one epoch of SGD, three rounds, one thread. The
reference is a loop that trains the same models on the same samples in the same order and averages
them; both end with the same weights, which is checked. Repeats alternate; processor seconds.

    python experiments/benchmarks/engine_overhead.py [--clients 100] [--repeats 5]
"""

from __future__ import annotations

import argparse
import copy
import time
from statistics import median
from typing import Any

import numpy as np
import torch
from flwr.app import Context
from flwr.serverapp.strategy import FedAvg
from torch import nn

from fedcircuit.app.engines import Engine, Federation, run_federation
from fedcircuit.clients import client_app
from fedcircuit.learning.models import build_model
from fedcircuit.learning.seeds import derived_seed
from fedcircuit.learning.training import LocalTraining, train_local
from fedcircuit.learning.weights import get_weights, set_weights
from fedcircuit.samples import Samples

TRAINING = LocalTraining(epochs=1, batch_size=64, optimizer="sgd", lr=0.1)
N_CLASSES, N_SAMPLES, ROUNDS = 10, 600, 3


def model() -> nn.Module:
    """The network all start from."""
    return build_model("mlp", (1, 28, 28), N_CLASSES, seed=0, widths=(64,))


def client_data(n_clients: int) -> list[Samples]:
    """Random samples: the time does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    return [
        Samples(
            torch.randn(N_SAMPLES, 1, 28, 28, generator=generator),
            torch.randint(N_CLASSES, (N_SAMPLES,), generator=generator),
        )
        for _ in range(n_clients)
    ]


def plain_loop(data: list[Samples]) -> dict[str, Any]:
    """Train every client from the same weights and average, without Flower."""
    weights: dict[str, Any] = get_weights(model())
    for number in range(1, ROUNDS + 1):
        weights = plain_round(data, weights, number)
    return weights


def plain_round(data: list[Samples], start: dict[str, Any], number: int) -> dict[str, Any]:
    """One round of it."""
    pristine = model()
    total = {name: np.zeros_like(values) for name, values in start.items()}
    for client, samples in enumerate(data):
        own = copy.deepcopy(pristine)
        set_weights(own, start)
        seed = derived_seed(0, number, client)
        train_local(own, samples, TRAINING, n_classes=N_CLASSES, seed=seed)
        for name, values in get_weights(own).items():
            total[name] = total[name] + values * (len(samples) / (N_SAMPLES * len(data)))
    return total


def engine_loop(data: list[Samples]) -> dict[str, Any]:
    """The same rounds through the in-process engine and Flower's FedAvg."""

    def samples(context: Context) -> Samples:
        return data[int(context.node_config["partition-id"])]

    app = client_app(model, samples, TRAINING, n_classes=N_CLASSES, seed=0)
    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=len(data))
    federation = Federation(app, len(data), get_weights(model()), num_rounds=ROUNDS)
    result = run_federation(Engine(), strategy, federation)
    return {name: array.numpy() for name, array in result.arrays.items()}


def main() -> None:
    """Print both times, the ratio pair by pair, and the spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = client_data(arguments.clients)
    expected, found = plain_loop(data), engine_loop(data)  # warm both
    worst = max(float(np.abs(expected[name] - found[name]).max()) for name in expected)
    if worst > 1e-5:
        raise SystemExit(f"the two do not do the same: weights differ by {worst:.2g}")
    plain, engine = [], []
    for _ in range(arguments.repeats):
        for run, times in ((plain_loop, plain), (engine_loop, engine)):
            start = time.process_time()
            run(data)
            times.append((time.process_time() - start) / ROUNDS)
    ratios = sorted(e / p for e, p in zip(engine, plain, strict=True))
    print(f"{arguments.clients} clients, MLP, {N_SAMPLES} samples, weights equal to {worst:.1g}")
    print(f"plain loop  {median(plain):.3f} s a round [{min(plain):.3f}, {max(plain):.3f}]")
    print(f"in-process  {median(engine):.3f} s a round [{min(engine):.3f}, {max(engine):.3f}]")
    print(f"ratio       {median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]")


if __name__ == "__main__":
    main()
