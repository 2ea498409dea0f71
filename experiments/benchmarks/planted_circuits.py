"""Precision, recall and F1 of discovery methods on networks whose class circuits are known.

Every hard case alone and all together, in convolutional networks and multilayer perceptrons,
weight-sparse and dense: units found against units planted, over all classes and seeds. The method
``edges`` finds circuits of edges, against the edges planted.

    python experiments/benchmarks/planted_circuits.py [--methods attribution,edges] [--seeds 3]
"""

from __future__ import annotations

import argparse
import math
import time
from statistics import mean

import torch

from fedcircuit.circuits.checks import Controls
from fedcircuit.circuits.discovery import discover
from fedcircuit.circuits.edges import edge_circuits, split_by_layer
from fedcircuit.circuits.methods import discovery_method
from fedcircuit.circuits.planted import CASES, HARD, PlantedNetwork, f1, planted_cnn, planted_mlp
from fedcircuit.circuits.probes import Probe

BUILDERS = {"cnn": planted_cnn, "mlp": planted_mlp}
SETTINGS = {"plain": frozenset[str](), **{case: frozenset({case}) for case in CASES}, "HARD": HARD}


def scores(
    net: PlantedNetwork, method: str, ablation: str, per_class: int, loss: float | None
) -> list[list[float]]:
    """Precision, recall and F1 of every class; NaN where undefined."""
    if method == "edges":
        return edge_scores(net, per_class, ablation)
    options = {} if loss is None else {"size": {"kind": "faithful", "loss": loss}}
    samples = net.samples(per_class, seed=1000 + net.seed)
    found = discover(
        net.model,
        Probe(samples, samples, net.class_names),
        method=discovery_method(method, **options),
        ablation="zero" if ablation == "zero" else "mean",
        seed=net.seed,
    )
    per = [f1(found.masks[c], net.truth[c]) for c in range(net.n_classes)]
    return [[one.precision, one.recall, one.f1] for one in per]


def edge_scores(net: PlantedNetwork, per_class: int, ablation: str) -> list[list[float]]:
    """The same of circuits of edges between units, and from units to the head.

    Edges from the input are left out: in a multilayer perceptron a unit reads a direction, and the
    coordinates that carry most of it are no more planted than the others.
    """
    samples = net.samples(per_class, seed=1000 + net.seed)
    found = edge_circuits(
        net.model,
        Probe(samples, samples, net.class_names),
        ablation="zero" if ablation == "zero" else "mean",
        controls=Controls(count=0),
    )
    layers = split_by_layer(found.masks, found.layers).values()
    inner = [(net.edges[pair], mask) for pair, mask in zip(net.edges, layers, strict=True)][1:]
    truth, masks = (torch.cat([both[i].flatten(1) for both in inner], dim=1) for i in (0, 1))
    per = [f1(masks[c], truth[c]) for c in range(net.n_classes)]
    return [[one.precision, one.recall, one.f1] for one in per]


def cell(values: list[float]) -> str:
    """Mean and least; how many are undefined where some are."""
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return "not defined"
    missing = len(values) - len(defined)
    return f"{mean(defined):.2f} [{min(defined):.2f}]" + (f" nan:{missing}" if missing else "")


def main() -> None:
    """Print one line for each kind of network, density, case and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="attribution", help="names, with commas between")
    parser.add_argument("--kinds", default="cnn,mlp")
    parser.add_argument("--densities", default="sparse,dense")
    parser.add_argument("--cases", default=",".join(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--per-class", type=int, default=50, help="samples circuits are found on")
    parser.add_argument("--loss", type=float, help="of the size rule; the default is the rule's")
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--ablation", choices=("mean", "zero"), default="mean")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    head = f"{'net':4} {'weights':7} {'case':12} {'method':14}"
    print(f"{head} {'precision':13} {'recall':13} {'F1':13} s / network   mean [least] of a class")
    for kind in arguments.kinds.split(","):
        for density in arguments.densities.split(","):
            for case in arguments.cases.split(","):
                nets = [
                    BUILDERS[kind](
                        SETTINGS[case], seed=seed, density=density, noise=arguments.noise
                    )
                    for seed in range(arguments.seeds)
                ]
                for method in arguments.methods.split(","):
                    label = f"{kind:4} {density:7} {case:12} {method:14}"
                    start, rows = time.process_time(), list[list[float]]()
                    try:
                        for net in nets:
                            rows += scores(
                                net, method, arguments.ablation, arguments.per_class, arguments.loss
                            )
                    except ValueError as error:  # such as fedmi, which knows no linear units
                        print(f"{label} refused: {error}", flush=True)
                        continue
                    seconds = (time.process_time() - start) / len(nets)
                    cells = "  ".join(cell([row[i] for row in rows]) for i in range(3))
                    print(f"{label} {cells}  {seconds:.2f}", flush=True)


if __name__ == "__main__":
    main()
