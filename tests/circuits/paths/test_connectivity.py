import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedcircuit.circuits.circuit import split_by_site
from fedcircuit.circuits.models.evaluation_mode import evaluating
from fedcircuit.circuits.paths.connectivity import has_path, live_units
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import gated
from fedcircuit.learning.networks.models import build_model


def sparse_(model: nn.Module, density: float, seed: int) -> nn.Module:
    """Zero weights at random, in place."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(torch.rand(parameter.shape, generator=random) < density)
    return model


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths[:-1]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def links(model: nn.Module) -> list[torch.Tensor]:
    """Boolean [out, in] of every layer: is there any non-zero weight."""
    found = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            found.append(module.weight != 0)
        elif isinstance(module, nn.Conv2d):
            found.append((module.weight != 0).flatten(2).any(2))
    return found


def searched(layers: list[torch.Tensor], masks: list[torch.Tensor]):
    """Reached and read units by a plain walk over the layers: the independent route."""
    reached = [torch.ones(layers[0].shape[1], dtype=torch.bool)]
    for layer, mask in zip(layers[:-1], masks, strict=True):
        reached.append((layer & reached[-1]).any(1) & mask)
    read = [torch.ones(layers[-1].shape[0], dtype=torch.bool)]
    for layer, mask in zip(layers[:0:-1], masks[::-1], strict=True):
        read.append((layer & read[-1][:, None]).any(0) & mask)
    live = [a & b for a, b in zip(reached[1:], read[:0:-1], strict=True)]
    return torch.cat(live), bool((layers[-1] & reached[-1]).any())


def test_a_unit_is_live_if_reached_and_read() -> None:
    model = mlp(2, 3, 2)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [0.0, 0.0], [0.0, -3.0]]))
        model[2].weight.copy_(torch.tensor([[-1.0, 5.0, 0.0], [0.0, 0.0, 0.0]]))
    # unit 0 has both; unit 1 is read but only its bias reaches it; unit 2 is not read
    sites = find_sites(model, torch.zeros(1, 2))
    assert live_units(model, sites, torch.zeros(1, 2)).tolist() == [True, False, False]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.6]))
def test_live_units_and_paths_agree_with_a_walk_over_the_layers(seed, density) -> None:
    torch.manual_seed(seed)
    model = sparse_(mlp(4, 6, 5, 4, 3), density, seed)
    example = torch.randn(1, 4)
    sites = find_sites(model, example)
    masks = torch.rand(8, 15) < 0.6
    masks[0] = True
    every = [searched(links(model), [m[:6], m[6:11], m[11:]]) for m in masks]
    assert torch.equal(live_units(model, sites, example), every[0][0])
    assert has_path(model, sites, masks, example).tolist() == [path for _, path in every]


@pytest.mark.parametrize("seed", range(3))
def test_convolutions_with_pooling_agree_with_a_walk(seed) -> None:
    model = sparse_(build_model("simple-cnn", (2, 16, 16), 3, seed=seed), 0.02, seed)
    # the head reads channels at positions: a channel is read if any position is
    head = model[-1].weight.reshape(3, 128, -1) != 0
    layers = [*links(model)[:-1], head.any(2)]
    example = torch.zeros(1, 2, 16, 16)
    expected, path = searched(layers, [torch.ones(n, dtype=torch.bool) for n in (32, 64, 128)])
    sites = find_sites(model, example)
    assert torch.equal(live_units(model, sites, example), expected)
    assert 0 < expected.sum() < 224
    assert path


def test_a_weight_that_only_meets_padding_carries_nothing() -> None:
    # 1x1 images: of a 3x3 kernel only the centre meets a pixel, at every other place is padding
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[0, 0, 1, 1] = 1.0
        model[0].weight[1, 0, 0, 0] = 1.0
    example = torch.zeros(1, 1, 1, 1)
    assert live_units(model, find_sites(model, example), example).tolist() == [True, False]


def test_max_pooling_does_not_hide_a_small_contribution() -> None:
    # two channels of which the pooled maximum would show only the one with more weights
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1, 2),
    )  # fmt: skip
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].weight[0, 0, 0, 0] = 1.0  # channel 0 reaches the lower right place only
        model[2].weight[0, 1, 2, :] = 1.0  # channel 1 the upper places
        model[2].weight[0, 1, 1, 1] = 1.0
    example = torch.zeros(1, 1, 2, 2)
    sites = find_sites(model, example)
    assert live_units(model, sites, example).all()


def test_a_closed_normalisation_cuts_and_the_shortcut_carries() -> None:
    model = build_model("resnet", (1, 8, 8), 3, seed=0, widths=(4,))
    example = torch.zeros(1, 1, 8, 8)
    sites = find_sites(model, example)
    assert live_units(model, sites, example).all()
    with torch.no_grad():
        model[3].norm2.weight.zero_()  # the residual branch ends in zeros
    live = split_by_site(live_units(model, sites, example), sites)
    stem, *branch = live.values()
    assert stem.all()  # over the shortcut
    assert not torch.cat(branch).any()
    masks = torch.ones(2, sum(s.n_units for s in sites), dtype=torch.bool)
    masks[1, :4] = False
    assert has_path(model, sites, masks, example).tolist() == [True, False]


@pytest.mark.parametrize(
    "activation", [nn.Tanh, nn.GELU, nn.Sigmoid, nn.SiLU, nn.ELU, nn.Softplus, nn.Identity]
)
def test_the_kind_of_activation_does_not_matter(activation) -> None:
    model = nn.Sequential(nn.Linear(3, 4), activation(), nn.LayerNorm(4), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[1] = 0.0
        model[2].weight[2] = 0.0
    example = torch.zeros(1, 3)
    live = live_units(model, find_sites(model, example), example)
    assert live.tolist() == [True, False, False, True]


class Custom(nn.Module):
    """A user's module: own parameters, functional activations, two branches, a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 2), nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.tensor([-1.0, 0.0, -2.0, 3.0]))
        self.own_bias = nn.Parameter(torch.ones(4))
        self.head = nn.Linear(4, 2)
        self.last = nn.LogSoftmax(dim=1)

    def forward(self, x):
        both = torch.cat([torch.tanh(self.left(x)), torch.relu(self.right(x))], dim=1)
        return self.last(self.head(both * self.scale + self.own_bias))


def test_a_users_own_module_is_followed() -> None:
    model = Custom()
    example = torch.zeros(1, 3)
    live = live_units(model, find_sites(model, example), example)
    assert live.tolist() == [True, False, True, True]
    masks = torch.tensor([[True] * 4, [False] * 4, [False, True, False, False]])
    paths = has_path(model, find_sites(model, example), masks, example)
    assert paths.tolist() == [True, False, False]


def test_one_path_through_many_sparse_layers_does_not_underflow() -> None:
    width, depth = 100, 170  # an average over all weights, 1 / 100 a layer, would underflow
    model = mlp(width, *[width] * depth, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.eye(*parameter.shape))
    sites = find_sites(model, torch.zeros(1, width))
    assert live_units(model, sites, torch.zeros(1, width)).sum() == 2 * depth  # two logits
    masks = torch.zeros(2, depth * width, dtype=torch.bool)
    masks[:, ::width] = True
    masks[1, 30 * width] = False
    assert has_path(model, sites, masks, torch.zeros(1, width)).tolist() == [True, False]


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_a_masked_network_without_a_path_is_constant(seed) -> None:
    torch.manual_seed(seed)
    model = sparse_(mlp(4, 6, 5, 3), 0.5, seed)
    inputs = torch.randn(20, 4)
    sites = find_sites(model, inputs)
    masks = torch.rand(10, 11) < 0.35
    paths = has_path(model, sites, masks, inputs)
    for mask, path in zip(masks, paths, strict=True):
        with evaluating(model), torch.no_grad(), gated(model, sites, split_by_site(mask, sites)):
            varies = bool(model(inputs).std(0).max() > 1e-7)
        # a path may still be silent on 20 samples; no path is silent always
        assert path or not varies


def test_the_model_is_left_as_it_came() -> None:
    model = build_model("resnet", (1, 8, 8), 3, seed=0, widths=(4,)).train()
    before = copy.deepcopy(model.state_dict())
    sites = find_sites(model, torch.zeros(1, 1, 8, 8))
    live_units(model, sites, torch.zeros(1, 1, 8, 8))
    has_path(model, sites, torch.ones(1, 12, dtype=torch.bool), torch.zeros(1, 1, 8, 8))
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_masks_give_no_paths() -> None:
    model = mlp(2, 3, 2)
    sites = find_sites(model, torch.zeros(1, 2))
    masks = torch.zeros(0, 3, dtype=torch.bool)
    assert has_path(model, sites, masks, torch.zeros(1, 2)).shape == (0,)
