"""Weights of several models in one tensor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from fedcircuit.circuits.masking.stacked_models import layers_of, stack
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.weights import get_weights


@pytest.fixture
def every_warning() -> Iterator[None]:
    """PyTorch warns of a kind once a process; here it warns, and so fails, each time."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("every_warning")
def test_weights_that_nobody_may_write_to_are_stacked_without_a_warning() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 4))
    inputs = torch.zeros(1, 3)
    layers, weights = layers_of(model, find_sites(model, inputs), inputs), get_weights(model)
    for values in weights.values():
        values.flags.writeable = False  # as every recorded round has them

    found = stack(layers, [weights, weights], torch.zeros(()))

    assert torch.equal(found.weights[0][1], model[0].weight)
    assert torch.equal(found.biases[1][0, 0], model[2].bias)
