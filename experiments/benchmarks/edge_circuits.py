"""Edge circuits of dense and weight-sparse networks: their cost, their size and what they do.

One SimpleCNN on real MNIST for each sparsity and seed, one probe of 500 images, one thread. Beside
the seconds for the scores of all edges of all classes stands one pass of unit scores on the same
samples; beside recall, FPR and balanced accuracy on the checking half stand random edge circuits
with as many existing edges in every layer; beside the edge IoU of circuits found on two halves of
the discovery samples stands its chance-adjusted form.

    python experiments/benchmarks/edge_circuits.py --data FOLDER [--seeds 0 1 2] [--share 0.9]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import fmean, median

import torch
from torch import nn

from fedcircuit.circuits.edges import (
    EdgeDiscovery,
    edge_circuits,
    edge_overlaps,
    edge_scores,
    find_edge_layers,
    layer_references,
)
from fedcircuit.circuits.masking import reference_activations
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.search import Task, searched, shared_gradients
from fedcircuit.circuits.sites import find_sites
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.networks import WeightSparsity, build_model
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import LocalTraining, evaluate, train_local


def trained(data: Dataset, sparsity: float, seed: int) -> nn.Module:
    """A SimpleCNN at a weight sparsity; 0 is dense."""
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


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median processor seconds, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return median(times)


def score_seconds(model: nn.Module, probe: Probe, repeats: int) -> tuple[float, float]:
    """Seconds for the scores of all edges and of all units, all classes, same samples."""
    samples = probe.discovery
    layers, sites = find_edge_layers(model, samples.inputs), find_sites(model, samples.inputs)
    by_layer = layer_references(model, layers, samples, n_classes=10, ablation="mean")
    by_site = reference_activations(model, sites, samples, n_classes=10, ablation="mean")
    task = Task(samples, 10, by_site)
    gates = torch.ones(sum(site.n_units for site in sites))

    def units() -> object:
        with searched(model, sites, task, torch.Generator()) as here:
            return shared_gradients(here, gates)

    edges = seconds(lambda: edge_scores(model, layers, samples, by_layer, n_classes=10), repeats)
    return edges, seconds(units, repeats)


def quality(found: EdgeDiscovery) -> str:
    """Means over the classes; in brackets the random control."""
    checks = [check for check, has in zip(found.checks, found.found.tolist(), strict=True) if has]
    if not checks:
        return "no circuit was found"
    cells = [f"size {fmean(check.size or 0 for check in checks):.0f}"]
    for name, label in (("recall", "recall"), ("fpr", "FPR"), ("balanced_accuracy", "BA")):
        own = [getattr(check, name) for check in checks]
        null = [getattr(check, f"control_{name}") for check in checks]
        cells.append(f"{label} {fmean(own):.3f} [{fmean(null):.3f}]")
    lowest = min(check.balanced_accuracy for check in checks)
    above = sum(check.balanced_accuracy > check.null_balanced_accuracy for check in checks)
    constant = sum(bool(check.constant) for check in checks)
    cells.append(
        f"lowest BA {lowest:.2f}, above null {above}, constant {constant} of {len(checks)}"
    )
    return "  ".join(cells)


def halves(model: nn.Module, probe: Probe, share: float, seed: int) -> str:
    """Edge IoU of circuits found on two halves of the discovery samples, mean over classes."""
    parts = Probe.split(probe.discovery, probe.class_names, seed)
    swapped = Probe(parts.checking, parts.discovery, parts.class_names)
    a, b = (edge_circuits(model, half, share=share) for half in (parts, swapped))
    table = edge_overlaps(a, b).circuits
    iou, chance, adjusted = (
        torch.from_numpy(values[:, -1]).nanmean()
        for values in (table.iou, table.chance, table.adjusted)
    )
    return f"IoU of halves {iou:.3f} (chance {chance:.3f}, adjusted {adjusted:.3f})"


def report(data: Dataset, sparsity: float, seed: int, arguments: argparse.Namespace) -> None:
    """Train one network and print its lines."""
    model = trained(data, sparsity, seed)
    first = torch.cat([(data.test.labels == c).nonzero().flatten()[:50] for c in range(10)])
    probe = Probe.split(data.test.take(first), data.class_names, seed)
    accuracy = evaluate(model, data.test, n_classes=10).accuracy
    edges, units = score_seconds(model, probe, arguments.repeats)
    print(f"sparsity {sparsity}, seed {seed}: accuracy {accuracy:.3f}")
    print(f"  scores of 10 classes, 250 images: edges {edges:.3f} s, units {units:.3f} s", end=", ")
    print(f"ratio {edges / units:.2f}")
    for share in arguments.share:
        found = edge_circuits(model, probe, share=share, seed=seed)
        print(f"  share {share}: {int(found.existing.sum())} of {len(found.existing)} edges exist")
        print(f"    {quality(found)}")
        print(f"    discovery {found.cost.seconds:.3f} s; {halves(model, probe, share, seed)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the lines of every sparsity and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="root of MNIST, else FEDCIRCUIT_DATA")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.0, 0.95, 0.99])
    parser.add_argument("--share", type=float, nargs="+", default=[0.9])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    for seed in arguments.seeds:
        source = DataSource("mnist", root=arguments.data, train_limit=5000, test_limit=3000)
        data = load_dataset(source, seed=seed)
        for sparsity in arguments.sparsity:
            report(data, sparsity, seed, arguments)


if __name__ == "__main__":
    main()
