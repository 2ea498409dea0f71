"""Activations on a pool: of every layer in order, in eval mode, positions averaged or kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedcircuit.analysis.information.activations import pool_activations
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples


def pool_of(*shape: int, n: int = 7) -> Samples:
    inputs = torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))
    return Samples(inputs, torch.arange(n) % 2)


def seeded(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def test_channels_are_averaged_over_positions_or_laid_side_by_side() -> None:
    model = seeded(nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)))
    pool = pool_of(1, 3, 3)
    sites = find_sites(model, pool.inputs[:2])
    maps = model[:2](pool.inputs).detach().numpy()  # [7, 3, 2, 2]
    mean = pool_activations(model, pool, sites).layers["0"]
    np.testing.assert_allclose(mean, maps.mean((2, 3)), rtol=1e-6)
    flat = pool_activations(model, pool, sites, spatial="flat").layers["0"]
    np.testing.assert_array_equal(flat, maps.reshape(7, 12))


def test_tokens_are_positions_and_units_are_kept() -> None:
    model = seeded(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Flatten(), nn.Linear(20, 2)))
    pool = pool_of(4, 3)  # four tokens
    sites = find_sites(model, pool.inputs[:2])
    tokens = model[:2](pool.inputs).detach().numpy()  # [7, 4, 5]
    mean = pool_activations(model, pool, sites).layers["0"]
    np.testing.assert_allclose(mean, tokens.mean(1), rtol=1e-5)
    assert pool_activations(model, pool, sites, spatial="flat").layers["0"].shape == (7, 20)


class Attending(nn.Module):
    """One attention of two heads over three tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].flatten(1))


def test_the_channels_of_heads_are_kept() -> None:
    model, pool = seeded(Attending()), pool_of(3, 4)
    sites = find_sites(model, pool.inputs[:2])
    assert pool_activations(model, pool, sites).layers["attention"].shape == (7, 4)
    flat = pool_activations(model, pool, sites, spatial="flat").layers["attention"]
    mean = flat.reshape(7, 3, 4).mean(1)
    np.testing.assert_allclose(
        pool_activations(model, pool, sites).layers["attention"], mean, rtol=1e-5, atol=1e-6
    )


def test_layers_come_in_order_of_execution_and_logits_last() -> None:
    model = build_model("mlp", (6,), 2, seed=0, widths=(5, 4, 3))
    pool = pool_of(6)
    sites = find_sites(model, pool.inputs[:2])
    found = pool_activations(model, pool, sites, output=True)
    assert [values.shape for values in found.layers.values()] == [(7, 5), (7, 4), (7, 3), (7, 2)]
    assert list(found.layers)[-1] == "output"
    np.testing.assert_array_equal(
        found.layers["output"], model.eval()(pool.inputs).detach().numpy()
    )


def test_the_model_runs_in_eval_mode_and_is_given_back_as_it_was() -> None:
    model = seeded(
        nn.Sequential(
            nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2)
        )
    ).train()
    pool = pool_of(6)
    sites = find_sites(model, pool.inputs[:2])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = pool_activations(model, pool, sites)
    second = pool_activations(model, pool, sites, batch_size=2)
    np.testing.assert_allclose(first.layers["0"], second.layers["0"], rtol=1e-6)
    assert first.accuracy == second.accuracy
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    own = model.eval()(pool.inputs).argmax(1)
    assert first.accuracy == pytest.approx(float((own == pool.labels).float().mean()))


def test_the_accuracy_of_a_broken_model_is_not_defined() -> None:
    model = seeded(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)))
    pool = pool_of(6)
    sites = find_sites(model, pool.inputs[:2])
    with torch.no_grad():
        model[2].bias[1] = math.nan
    assert math.isnan(pool_activations(model, pool, sites).accuracy)


def test_an_empty_pool_is_refused() -> None:
    model = build_model("mlp", (6,), 2, seed=0, widths=(5,))
    sites = find_sites(model, pool_of(6).inputs)
    with pytest.raises(ValueError, match="needs a pool of samples, got none"):
        pool_activations(model, pool_of(6, n=0), sites)
