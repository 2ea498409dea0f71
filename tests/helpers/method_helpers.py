"""Samples, tasks and scores for tests of discovery methods."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from fedcircuit.circuits.masking.ablation import Ablation, reference_activations
from fedcircuit.circuits.models.evaluation_mode import evaluating
from fedcircuit.circuits.search.protocol import Meter, Task, frozen
from fedcircuit.circuits.search.scored_method import Scorer
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples

N_BANDS = 4


def noise(n: int = 30, n_classes: int = 3, seed: int = 0) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=generator)
    labels[:n_classes] = torch.arange(n_classes)
    return Samples(torch.randn(n, 1, 8, 8, generator=generator), labels)


def make_task(
    model: nn.Module, samples: Samples, n_classes: int, ablation: Ablation = "mean"
) -> Task:
    reference = reference_activations(
        model,
        find_sites(model, samples.inputs),
        samples,
        n_classes=n_classes,
        ablation=ablation,
        generator=torch.Generator().manual_seed(1),
    )
    return Task(samples, n_classes, reference)


def scores_of(scorer: Scorer, model: nn.Module, task: Task, seed: int = 0) -> Tensor:
    sites = find_sites(model, task.samples.inputs)
    with evaluating(model), frozen(model):
        return scorer.scores(model, sites, task, torch.Generator().manual_seed(seed), Meter())


def banded(n: int = 32, seed: int = 0) -> Samples:
    """Blocks that tell the classes apart, under noise; classes of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(N_BANDS, (n,), generator=generator)
    labels[:N_BANDS] = torch.arange(N_BANDS)
    inputs = 0.3 * torch.randn(n, 1, 8, 8, generator=generator)
    for row, label in enumerate(labels.tolist()):
        inputs[row, 0, 2 * label : 2 * label + 2] += 1.0
    return Samples(inputs, labels)


@cache
def trained(kind: str) -> nn.Module:
    """A small network that knows the classes."""
    widths = {"simple-cnn": (4, 6), "mlp": (10, 7)}[kind]
    model = build_model(kind, (1, 8, 8), N_BANDS, seed=1, widths=widths)
    data = banded(200, seed=9)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.inputs), data.labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model
