"""What the analysis of a round costs beside the training of the round, in processor seconds.

One round of five clients with weight-sparse networks on MNIST, 1,600 images and 5 epochs each, one
thread; then the circuits of all ten classes of the global and of every client's model on a probe of
500 images, with every check, control and verdict, in the default settings. The target is a ratio
of at most 1.

    python experiments/benchmarks/analysis_cost.py --data FOLDER

The folder is torchvision's (it holds ``MNIST/raw``); FEDCIRCUIT_DATA does as well.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import torch
from torch import nn

from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import CircuitSettings, RoundCircuits, RoundTask, analyse_round
from fedcircuit.learning import Weights, derived_seed, get_weights, set_weights
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.networks import WeightSparsity, build_model
from fedcircuit.learning.partitions import by_classes, iid
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import LocalTraining, evaluate, train_local
from fedcircuit.samples import Samples

N_CLIENTS, IMAGES, N_CLASSES, PROBE = 5, 1_600, 10, 500
PAIRS = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def main() -> None:
    """Train one round, analyse it, print both costs."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    source = DataSource(
        "mnist", root=arguments.data, train_limit=N_CLIENTS * IMAGES, test_limit=2_000
    )
    dataset = load_dataset(source, seed=arguments.seed)
    clients = _clients(dataset, skewed=arguments.by_class, seed=arguments.seed)

    start = time.process_time()
    models = [_train(samples, arguments, index) for index, samples in enumerate(clients)]
    training = time.process_time() - start

    sizes = [len(samples) for samples in clients]
    averaged = _average([get_weights(model) for model in models], sizes)
    model = _network(arguments.seed)
    set_weights(model, averaged)
    accuracy = evaluate(model, dataset.test, n_classes=N_CLASSES).accuracy
    probe = Probe.split(dataset.test.take(torch.arange(PROBE)), dataset.class_names, arguments.seed)
    settings = CircuitSettings()
    if arguments.controls is not None:
        settings = CircuitSettings(controls=arguments.controls)

    start = time.process_time()
    result = analyse_round(
        model,
        averaged,
        {str(index): get_weights(local) for index, local in enumerate(models)},
        probe,
        RoundTask(settings, seed=arguments.seed, round=1),
    )
    analysis = time.process_time() - start
    _report(result, accuracy)
    print(
        f"local training {training:.1f} s, analysis {analysis:.1f} s (processor time), "
        f"ratio {analysis / training:.2f}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="folder of torchvision's MNIST; else FEDCIRCUIT_DATA")
    parser.add_argument("--sparsity", type=float, default=0.95, help="share of zero weights")
    parser.add_argument("--by-class", action="store_true", help="two classes for each client")
    parser.add_argument("--controls", type=int, help="random circuits for each circuit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _clients(dataset: Dataset, *, skewed: bool, seed: int) -> list[Samples]:
    labels = dataset.train.labels.numpy()
    if skewed:
        partition = by_classes(labels, PAIRS, n_classes=N_CLASSES)
    else:
        partition = iid(labels, N_CLIENTS, seed=seed)
    return [dataset.train.take(torch.from_numpy(index)) for index in partition.indices]


def _network(seed: int) -> nn.Module:
    return build_model("simple-cnn", (1, 28, 28), N_CLASSES, seed=derived_seed(seed, "model"))


def _train(samples: Samples, arguments: argparse.Namespace, client: int) -> nn.Module:
    model = _network(arguments.seed)
    training = LocalTraining(
        epochs=5, optimizer="adam", lr=1e-3, sparsity=WeightSparsity(arguments.sparsity)
    )
    seed = derived_seed(arguments.seed, 1, client)
    train_local(model, samples, training, n_classes=N_CLASSES, seed=seed)
    return model


def _average(weights: list[Weights], sizes: list[int]) -> Weights:
    """FedAvg: the mean weighted by numbers of samples."""
    return {
        name: sum(
            values[name] * (size / sum(sizes)) for values, size in zip(weights, sizes, strict=True)
        )
        for name in weights[0]
    }


def _report(result: RoundCircuits, accuracy: float) -> None:
    print(f"accuracy of the average {accuracy:.3f}")
    for one in result.models:
        states = Counter(str(validity.status) for validity in one.validity)
        sizes = [validity.size for validity in one.validity if validity.size is not None]
        mean = sum(sizes) / len(sizes) if sizes else float("nan")
        print(f"  {one.model}: {dict(states)}, mean size {mean:.0f}, live {int(one.live.sum())}")
    verdicts = Counter(
        str(found) for pair in result.comparisons.values() for found, _ in pair.verdicts
    )
    print(f"  verdicts {dict(verdicts)}")
    print("  seconds " + ", ".join(f"{name} {s:.1f}" for name, s in result.seconds.items()))


if __name__ == "__main__":
    main()
