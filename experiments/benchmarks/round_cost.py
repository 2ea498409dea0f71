"""What the circuits of a round cost beside the round's local training: 50 clients, 10 classes.

Clients hold 600 MNIST images each, the same mix of digits, and train 5 epochs from one global
model, as in the middle of a federation; then `analyse_round` finds, checks and compares the
circuits of all ten classes of the average and of every client's model in the default settings, on
a probe of 500 images. Both in this process, one after the other, with two threads. Measured for a
convolutional network at weight sparsity 0.95 and for a dense multilayer perceptron.

    python experiments/benchmarks/round_cost.py --data FOLDER [--clients 10]

Cost grows in proportion to the clients but for the average's own share: with fewer clients the
ratio is slightly too high. The exit code is 1 if a ratio of wall seconds exceeds 0.25.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import CircuitSettings, RoundCircuits, RoundTask, analyse_round
from fedcircuit.learning import Weights, derived_seed, get_weights, set_weights
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.networks import WeightSparsity, build_model
from fedcircuit.learning.partitions import iid
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import LocalTraining, evaluate, train_local

LIMIT = 0.25  # what the analysis may cost, as a share of the training
IMAGES, PER_CLASS, WARM = 600, 50, 5_000  # a client's, the probe's, those of the earlier rounds
SPARSITIES = {"simple-cnn": 0.95, "mlp": 0.0}


@dataclass
class Stopwatch:
    """Wall and processor seconds since it was made."""

    def __post_init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Wall and processor seconds."""
        return time.perf_counter() - self._wall, time.process_time() - self._processor


def training_of(kind: str) -> LocalTraining:
    """Local training of a kind of network."""
    share = SPARSITIES[kind]
    cut = WeightSparsity(share) if share else None
    return LocalTraining(epochs=5, batch_size=64, optimizer="adam", lr=1e-3, sparsity=cut)


def average(models: list[Weights]) -> Weights:
    """FedAvg of clients with equally many images."""
    return {name: sum(one[name] for one in models) / len(models) for name in models[0]}


def measured(kind: str, data: Dataset, n_clients: int, seed: int) -> float:
    """Print one round's costs; ratio of wall seconds."""
    warm, images = data.train.take(torch.arange(WARM)), data.train.labels[WARM:].numpy()
    training, n_classes = training_of(kind), len(data.class_names)
    start = build_model(kind, data.input_shape, n_classes, seed=derived_seed(seed, "model"))
    train_local(start, warm, training, n_classes=n_classes, seed=derived_seed(seed, "warm"))
    parts = iid(images, n_clients, seed=seed).indices
    clients = [data.train.take(torch.from_numpy(part) + WARM) for part in parts]

    watch = Stopwatch()
    locals_ = [copy.deepcopy(start) for _ in clients]
    for index, (model, samples) in enumerate(zip(locals_, clients, strict=True)):
        train_local(
            model, samples, training, n_classes=n_classes, seed=derived_seed(seed, 1, index)
        )
    trained = watch.read()

    weights = {str(index): get_weights(model) for index, model in enumerate(locals_)}
    averaged = average(list(weights.values()))
    probe = probe_of(data, seed)
    task = RoundTask(CircuitSettings(), seed=seed, round=1)
    watch = Stopwatch()
    result = analyse_round(start, averaged, weights, probe, task)
    analysed = watch.read()

    set_weights(start, averaged)
    report(kind, start, data, result)
    return compared(trained, analysed, result, n_clients)


def probe_of(data: Dataset, seed: int) -> Probe:
    """The first test images of every class, in two halves."""
    labels = data.test.labels
    first = [(labels == c).nonzero().flatten()[:PER_CLASS] for c in range(len(data.class_names))]
    return Probe.split(data.test.take(torch.cat(first)), data.class_names, seed)


def report(kind: str, model: nn.Module, data: Dataset, result: RoundCircuits) -> None:
    """What was analysed: models, accuracy of the average, states and verdicts."""
    accuracy = evaluate(model, data.test, n_classes=len(data.class_names)).accuracy
    states = Counter(str(one.status) for model in result.models for one in model.validity)
    verdicts = Counter(str(v) for pair in result.comparisons.values() for v, _ in pair.verdicts)
    print(f"{kind}, sparsity {SPARSITIES[kind]:g}: accuracy of the average {accuracy:.3f}")
    print(f"  circuits {dict(states)}, verdicts {dict(verdicts)}")


def compared(
    trained: tuple[float, float],
    analysed: tuple[float, float],
    result: RoundCircuits,
    n_clients: int,
) -> float:
    """Print the seconds, in all, by client and by part, and the ratios; that of wall seconds."""
    for name, (wall, processor) in (("local training", trained), ("analysis", analysed)):
        print(
            f"  {name:15}{wall:7.2f} s ({wall / n_clients:.3f} s a client), "
            f"processor {processor:7.2f} s"
        )
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in result.seconds.items())
    wall, processor = (a / t for a, t in zip(analysed, trained, strict=True))
    print(f"  of the analysis: {parts}")
    print(f"  ratio {wall:.3f} (processor seconds {processor:.3f}), limit {LIMIT:g}", flush=True)
    return wall


def main() -> int:
    """Measure both networks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="root of MNIST, else FEDCIRCUIT_DATA")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--models", nargs="+", choices=SPARSITIES, default=list(SPARSITIES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    limit = WARM + IMAGES * arguments.clients
    source = DataSource("mnist", root=arguments.data, train_limit=limit, test_limit=2_000)
    data = load_dataset(source, seed=arguments.seed)
    print(
        f"{arguments.clients} clients, {IMAGES} images and 5 epochs each; circuits of "
        f"{arguments.clients + 1} models, 10 classes; {arguments.threads} threads"
    )
    ratios = [measured(kind, data, arguments.clients, arguments.seed) for kind in arguments.models]
    return int(max(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
