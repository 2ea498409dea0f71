"""A small network, and three classes it can tell apart."""

from __future__ import annotations

import torch
from torch import nn

from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples

N_UNITS, N_CLASSES = 28, 3


def blobs(n: int, seed: int, *, apart: float = 2.5) -> Samples:
    """Three separable classes in five dimensions."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % N_CLASSES
    centres = apart * torch.eye(5)[:N_CLASSES]
    return Samples(centres[labels] + torch.randn(n, 5, generator=random), labels)


def network(seed: int = 0) -> nn.Module:
    """Two hidden layers of 16 and 12 units."""
    return build_model("mlp", (5,), N_CLASSES, seed=seed, widths=(16, 12))
