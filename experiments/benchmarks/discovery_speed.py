"""Processor seconds per circuit of every discovery method on one model.

One SimpleCNN on real MNIST, at weight sparsity 0.95 unless ``--sparsity`` says otherwise; one probe
of 500 images, one thread, all in the same run; references are `fedmi` on tensors in memory, which
is faster than its published code with its data loader, and one forward and backward pass over the
probe. Beside the time stands what was bought with it, on the checking half.

    python experiments/benchmarks/discovery_speed.py --data FOLDER [--repeats 3] [--seed 0]
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch import nn

from fedcircuit.circuits.discovery import discover
from fedcircuit.circuits.masking import Ablation, reference_activations
from fedcircuit.circuits.methods import METHOD_NAMES
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.search import Discovery
from fedcircuit.circuits.sites import masked
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.networks import WeightSparsity, build_model
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import LocalTraining, evaluate, train_local

ABLATIONS: dict[str, Ablation] = {"fedmi": "zero"}  # of the others: mean


def trained(data: Dataset, seed: int, sparsity: float = 0.95) -> nn.Module:
    """A SimpleCNN with this share of zero weights."""
    model = build_model("simple-cnn", data.input_shape, 10, seed=seed)
    training = LocalTraining(
        epochs=4,
        batch_size=64,
        optimizer="adam",
        lr=1e-3,
        sparsity=WeightSparsity(sparsity) if sparsity else None,
    )
    train_local(model, data.train, training, n_classes=10, seed=seed)
    return model


def quality(model: nn.Module, probe: Probe, found: Discovery, ablation: Ablation) -> str:
    """Mean recall, false positive rate and balanced accuracy, each with the range over classes."""
    reference = reference_activations(
        model, found.sites, probe.discovery, n_classes=10, ablation=ablation
    )
    recalls, fprs = [], []
    labels = probe.checking.labels
    for index in range(10):
        circuit = found.circuit(index)
        if circuit is None:
            continue
        with torch.no_grad(), masked(model, found.sites, circuit, reference):
            said = model(probe.checking.inputs).argmax(1) == index
        recalls.append(float(said[labels == index].float().mean()))
        fprs.append(float(said[labels != index].float().mean()))
    balanced = [(r + 1 - f) / 2 for r, f in zip(recalls, fprs, strict=True)]
    cells = (_range("recall", recalls), _range("FPR", fprs), _range("BA", balanced))
    return f"{'  '.join(cells)}  n={len(recalls)}"


def _one_pass(model: nn.Module, probe: Probe) -> float:
    """Processor seconds of one forward and backward pass over both halves, median of five."""
    inputs = torch.cat([probe.discovery.inputs, probe.checking.inputs])
    times = []
    for _ in range(5):
        start = time.process_time()
        model(inputs).sum().backward()
        times.append(time.process_time() - start)
    return median(times)


def _range(name: str, values: list[float]) -> str:
    if not values:
        return f"{name} not defined"
    mean = sum(values) / len(values)
    return f"{name} {mean:.3f} [{min(values):.2f}, {max(values):.2f}]"


def main() -> None:
    """Print one line a method, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="root of MNIST, else FEDCIRCUIT_DATA")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sparsity", type=float, default=0.95)
    parser.add_argument("--methods", default=",".join(METHOD_NAMES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = DataSource("mnist", root=arguments.data, train_limit=5000, test_limit=3000)
    data = load_dataset(source, seed=arguments.seed)
    model = trained(data, arguments.seed, arguments.sparsity)
    methods = arguments.methods.split(",")
    first = torch.cat([(data.test.labels == c).nonzero().flatten()[:50] for c in range(10)])
    probe = Probe.split(data.test.take(first), data.class_names, arguments.seed)
    accuracy = evaluate(model, data.test, n_classes=10).accuracy
    print(
        f"SimpleCNN, sparsity {arguments.sparsity}, accuracy {accuracy:.3f}; "
        "probe 500 images, 10 classes"
    )
    seconds: dict[str, float] = {}
    for method in methods:
        ablation = ABLATIONS.get(method, "mean")
        discover(model, probe, method="attribution", ablation=ablation)  # warm
        runs, times = [], []
        for repeat in range(arguments.repeats):
            start = time.process_time()  # from the images on: reference activations included
            runs.append(discover(model, probe, method=method, ablation=ablation, seed=repeat))
            times.append(time.process_time() - start)
        seconds[method] = median(times)
        print(
            f"{method:12} {seconds[method] / 10:.4f} s per circuit "
            f"[{min(times) / 10:.4f}, {max(times) / 10:.4f}]  "
            f"size {runs[0].masks.sum(1).float().mean():.0f} of 224  "
            f"{quality(model, probe, runs[0], ablation)}"
        )
    pass_seconds = _one_pass(model, probe)
    print(f"one forward and backward over the probe: {pass_seconds:.3f} s")
    for method in methods:
        print(f"{method} / pass: {seconds[method] / pass_seconds:.2f}")
    for method in methods if "fedmi" in methods else ():
        print(f"fedmi / {method}: {seconds['fedmi'] / seconds[method]:.1f} times")


if __name__ == "__main__":
    main()
