"""A small network and three classes that it tells apart."""

from __future__ import annotations

import torch
from torch import nn

from fedcircuit import Probe, Samples

N = 36
X = torch.randn(N, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3
X[torch.arange(N), 0, Y, Y] += 3.0
PROBE = Probe.split(Samples(X, Y), ["a", "b", "c"], 0)
BINARY = Y.clamp(max=1)
SHORT = {"gates": {"steps": 8}, "fedmi": {"steps": 8}}


def network(n_logits: int = 3, *, conv: bool = True) -> nn.Sequential:
    """Drawn once, with a head that tells the classes of its own features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if conv:
            layers = (nn.Conv2d(1, 4, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 6))
        else:
            layers = (nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 6))
        return nn.Sequential(*layers, nn.ReLU(), nn.Linear(6, n_logits))
