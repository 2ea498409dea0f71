"""What the in-process engine costs: its rounds against a plain Python loop doing the same work.

Run it with ``OMP_NUM_THREADS=1 python experiments/benchmarks/engine_overhead.py``. Both sides train
the same clients from the same seeds and average them; their weights must agree. Repeats are
interleaved, so that a busy machine slows both; the ratio of each pair is taken, then the median.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Context
from numpy.typing import NDArray
from torch import nn

from fedcircuit.app.engines import Engine, Federation, run_federation
from fedcircuit.clients import client_app
from fedcircuit.learning import Weights, derived_seed, get_weights, set_weights
from fedcircuit.learning.networks import build_model
from fedcircuit.learning.training import LocalTraining, train_local
from fedcircuit.samples import Samples
from fedcircuit.strategies import CircuitFedAvg

N_CLASSES = 10
INPUT_SHAPE = (1, 28, 28)
TRAINING = LocalTraining(epochs=1, batch_size=64, optimizer="sgd", lr=0.1)
LIMIT = 1.15  # what the engine may cost


@dataclass(frozen=True)
class Data:
    """Samples of every client, which the app asks for by context."""

    clients: tuple[Samples, ...]

    def __call__(self, context: Context) -> Samples:
        """The client's samples."""
        return self.clients[int(context.node_config["partition-id"])]

    def __hash__(self) -> int:
        return id(self)


def made_up(n_clients: int, n_samples: int) -> Data:
    """Random images: only their number matters here."""
    generator = torch.Generator().manual_seed(0)
    clients = []
    for _ in range(n_clients):
        images = torch.randn(n_samples, *INPUT_SHAPE, generator=generator)
        labels = torch.randint(N_CLASSES, (n_samples,), generator=generator)
        clients.append(Samples(images, labels))
    return Data(tuple(clients))


def mlp() -> nn.Module:
    """784-64-10, about 51,000 parameters."""
    return build_model("mlp", INPUT_SHAPE, N_CLASSES, seed=0, widths=(64,))


def plain_loop(data: Data, initial: Weights, rounds: int) -> Weights:
    """Federated averaging as one would write it without any engine."""
    weights, model = initial, mlp()
    for number in range(1, rounds + 1):
        total = sum(len(samples) for samples in data.clients)
        average: dict[str, NDArray[np.generic]] = {}
        for client, samples in enumerate(data.clients):
            local = copy.deepcopy(model)
            set_weights(local, weights)
            seed = derived_seed(0, number, client)
            train_local(local, samples, TRAINING, n_classes=N_CLASSES, seed=seed)
            for name, values in get_weights(local).items():
                part = values * (len(samples) / total)
                average[name] = average[name] + part if name in average else part
        weights = average
    return weights


def engine(data: Data, initial: Weights, rounds: int) -> Weights:
    """The same through Flower's strategy, ClientApp and messages."""
    app = client_app(mlp, data, TRAINING, n_classes=N_CLASSES)
    strategy = CircuitFedAvg(fraction_evaluate=0.0)
    federation = Federation(app, len(data.clients), initial, rounds)
    result = run_federation(Engine(), strategy, federation)
    return {name: array.numpy() for name, array in result.arrays.items()}


def timed(run: object, *args: object) -> tuple[float, Weights]:
    """Wall seconds of a call, and what it gave."""
    start = time.perf_counter()
    result = run(*args)  # type: ignore[operator]
    return time.perf_counter() - start, result


def main() -> None:
    """Print seconds a round of both, the ratio and its spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, initial = made_up(options.clients, options.samples), get_weights(mlp())
    small = Data(data.clients[:2])
    plain_loop(small, initial, 1), engine(small, initial, 1)  # imports and caches
    loops, engines = [], []
    for repeat in range(options.repeats):
        order = (plain_loop, engine) if repeat % 2 else (engine, plain_loop)
        found = {run: timed(run, data, initial, options.rounds) for run in order}
        loops.append(found[plain_loop][0] / options.rounds)
        engines.append(found[engine][0] / options.rounds)
        for name, values in found[plain_loop][1].items():
            assert np.allclose(values, found[engine][1][name], atol=1e-6), name
    ratios = sorted(e / p for e, p in zip(engines, loops, strict=True))
    ratio = statistics.median(ratios)
    print(f"{options.clients} clients, {options.samples} samples each, 784-64-10, one thread")
    print(f"plain loop   {statistics.median(loops):.3f} s a round")
    print(f"in process   {statistics.median(engines):.3f} s a round")
    print(f"ratio        {ratio:.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f}), limit {LIMIT}")


if __name__ == "__main__":
    main()
