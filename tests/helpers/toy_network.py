"""A network small enough to compute by hand: three classes, two detectors each, many decoys.

Inputs are ``[n, 4]``: one coordinate a class, and one that means nothing. Hidden units 0 to 2 are
class c's strong detectors (activation 1), 3 to 5 its weak ones (0.5), the rest are decoys that read
the last coordinate and hardly count. Logit c is 2 strong + 2 weak.
"""

from __future__ import annotations

import torch
from torch import nn

from fedcircuit.circuits.checks.subject import CheckedModel, checked_model
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.samples import Samples

N_DECOYS = 1000  # so many that a random pair of units hardly ever holds a detector
N_UNITS = 6 + N_DECOYS


def toy_model(*, prior: float = 0.0, order: torch.Tensor | None = None) -> nn.Sequential:
    """The network; ``prior`` of class 1; ``order`` rearranges its units, not its function."""
    first, head = nn.Linear(4, N_UNITS), nn.Linear(N_UNITS, 3)
    with torch.no_grad():
        for parameter in (first.weight, first.bias, head.weight, head.bias):
            parameter.zero_()
        for c in range(3):
            first.weight[c, c], first.weight[3 + c, c] = 1.0, 0.5
            head.weight[c, [c, 3 + c]] = 2.0
        first.weight[6:, 3] = 1.0
        head.weight[:, 6:] = 0.005 * torch.randn(
            3, N_DECOYS, generator=torch.Generator().manual_seed(0)
        )
        head.bias[1] = prior
        if order is not None:
            first.weight.copy_(first.weight[order])
            head.weight.copy_(head.weight[:, order])
    return nn.Sequential(first, nn.ReLU(), head)


def toy_samples(per_class: int = 4, classes: tuple[int, ...] = (0, 1, 2)) -> Samples:
    """Noise-free samples, classes in turn; the last coordinate alternates."""
    labels = torch.tensor([c for _ in range(per_class) for c in classes])
    inputs = torch.zeros(len(labels), 4)
    inputs[torch.arange(len(labels)), labels] = 1.0
    inputs[:, 3] = (torch.arange(len(labels)) // len(classes)) % 2
    return Samples(inputs, labels)


def units(*kept: int) -> torch.Tensor:
    """Mask ``[N_UNITS]`` with these units."""
    mask = torch.zeros(N_UNITS, dtype=torch.bool)
    mask[list(kept)] = True
    return mask


def toy_subject(
    model: nn.Module | None = None, samples: Samples | None = None, ablation: str = "mean"
) -> CheckedModel:
    """The network on the checking samples, references from balanced ones."""
    model = toy_model() if model is None else model
    balanced = toy_samples()
    sites = find_sites(model, balanced.inputs)
    reference = reference_activations(model, sites, balanced, n_classes=3, ablation=ablation)
    samples = balanced if samples is None else samples
    return checked_model(model, sites, samples, reference, n_classes=3)
