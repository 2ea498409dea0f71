"""What the information plane of a round costs beside the training of the round, in processor time.

One round of ten clients on MNIST, one epoch each over their part of the training images, one
thread; then the estimates of every hidden layer of the ten local models and of their average, on
2,000 test images, in the default settings: both bounds of Kolchinsky and Tracey for I(X;T), a
held-out linear probe for I(T;Y).

    OMP_NUM_THREADS=1 python experiments/benchmarks/information_cost.py --data FOLDER

The folder is torchvision's (it holds ``MNIST/raw``); FEDCIRCUIT_DATA does as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from fedcircuit.analysis.estimators import InformationSettings, label_information, layer_information
from fedcircuit.analysis.information import pool_activations, stratified_pool
from fedcircuit.circuits.sites import find_sites
from fedcircuit.learning import Weights, derived_seed, get_weights
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.networks import build_model
from fedcircuit.learning.partitions import iid
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import LocalTraining, train_local
from fedcircuit.observers import InformationObserver
from fedcircuit.records.rounds import ClientRecord, RoundView
from fedcircuit.samples import Samples

N_CLASSES = 10
Found = TypeVar("Found")


def main() -> None:
    """Train one round, measure its information plane, print both costs and where they arise."""
    arguments = _arguments()
    torch.set_num_threads(1)
    source = DataSource("mnist", root=arguments.data, train_limit=arguments.images)
    dataset = load_dataset(source, seed=arguments.seed)
    pool = stratified_pool(dataset.test, arguments.pool, seed=arguments.seed)
    settings = InformationSettings(inputs=arguments.inputs, labels=arguments.labels)

    clients, training = _timed(lambda: _trained(dataset, arguments))
    before = get_weights(_network(arguments))
    view = RoundView(1, before, _average(clients), tuple(clients))
    observer = InformationObserver(_network(arguments), pool, settings, seed=arguments.seed)
    seen, observing = _timed(lambda: observer(view))

    rows = seen.tables["information"].rows
    print(f"{len(clients)} clients, {len(pool)} pool samples, hidden layers {arguments.widths}")
    for row in rows:
        if row[0] in ("global", "mean of clients"):
            print(f"  {row[0]}, layer {row[1]}: {row[2]} {row[3]:.2f} {row[4]} ({row[5]})"
                  f"{', saturated' if row[10] else ''}, accuracy {row[12]:.3f}")  # fmt: skip
    _parts(view.after, pool, settings, arguments)
    print(
        f"local training {training:.1f} s, information plane {observing:.1f} s (processor time), "
        f"ratio {observing / training:.2f}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="folder of torchvision's MNIST; else FEDCIRCUIT_DATA")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--images", type=int, default=60_000, help="training images of all clients")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--pool", type=int, default=2_000)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 64, 32])
    parser.add_argument("--inputs", default="kolchinsky-tracey", help="estimator of I(X;T)")
    parser.add_argument("--labels", default="probe", help="estimator of I(T;Y)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _timed(work: Callable[[], Found]) -> tuple[Found, float]:
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def _network(arguments: argparse.Namespace) -> torch.nn.Module:
    seed = derived_seed(arguments.seed, "model")
    return build_model("mlp", (1, 28, 28), N_CLASSES, seed=seed, widths=arguments.widths)


def _trained(dataset: Dataset, arguments: argparse.Namespace) -> list[ClientRecord]:
    partition = iid(dataset.train.labels.numpy(), arguments.clients, seed=arguments.seed)
    training = LocalTraining(epochs=arguments.epochs, batch_size=32, lr=0.1)
    records = []
    for client, index in enumerate(partition.indices):
        model, samples = _network(arguments), dataset.train.take(torch.from_numpy(index))
        seed = derived_seed(arguments.seed, 1, client)
        train_local(model, samples, training, n_classes=N_CLASSES, seed=seed)
        records.append(ClientRecord(str(client), len(samples), get_weights(model)))
    return records


def _average(clients: list[ClientRecord]) -> Weights:
    """FedAvg of clients with (almost) equally many samples."""
    return {
        name: np.mean([client.weights[name] for client in clients], axis=0)
        for name in clients[0].weights
    }


def _parts(
    weights: Weights, pool: Samples, settings: InformationSettings, arguments: argparse.Namespace
) -> None:
    """Where the time of one model goes: forward passes, and both estimates of every layer."""
    model = _network(arguments)
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    sites = find_sites(model, pool.inputs[:2])
    seen, forward = _timed(lambda: pool_activations(model, pool, sites))
    print(f"one model: activations {forward:.2f} s")
    labels = pool.labels.numpy()
    for name, values in seen.layers.items():
        layer = values.astype(np.float64)
        whole = _timed(lambda layer=layer: layer_information(layer, labels, settings, seed=0))[1]  # type: ignore[misc]
        own = _timed(lambda layer=layer: label_information(layer, labels, settings, seed=0))[1]  # type: ignore[misc]
        print(f"  layer {name} ({layer.shape[1]} units): I(X;T) {max(0.0, whole - own):.2f} s, "
              f"I(T;Y) {own:.2f} s")  # fmt: skip


if __name__ == "__main__":
    main()
