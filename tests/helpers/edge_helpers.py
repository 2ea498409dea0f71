"""A small network, samples and edge scores for the tests of edges."""

import torch
from torch import Tensor, nn

from fedcircuit.circuits.edges.edge_layers import find_edge_layers, layer_references
from fedcircuit.circuits.edges.scoring import edge_scores
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples


def cnn(seed: int = 0, n_classes: int = 3) -> nn.Module:
    return build_model("simple-cnn", (2, 8, 8), n_classes, seed=seed, widths=(4, 5)).double()


def noise(seed: int = 0, n: int = 30, n_classes: int = 3) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % n_classes
    inputs = torch.randn(n, 2, 8, 8, generator=generator, dtype=torch.float64)
    return Samples(inputs + labels[:, None, None, None], labels)


def scored(
    model: nn.Module, samples: Samples, ablation: str = "mean", against: str = "all"
) -> Tensor:
    layers = find_edge_layers(model, samples.inputs)
    references = layer_references(model, layers, samples, n_classes=3, ablation=ablation)
    return edge_scores(model, layers, samples, references, n_classes=3, against=against)
