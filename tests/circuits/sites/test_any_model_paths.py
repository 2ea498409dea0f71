"""Which units of models of every kind can carry anything, against what they are seen to carry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_kinds import KINDS, TinyAttention, inputs_of, model_of
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from fedcircuit.circuits.circuit import Site, split_by_site
from fedcircuit.circuits.paths.connectivity import has_path, live_units
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import gated, transformed


def carries(model: nn.Module, site: Site, unit: int, inputs: Tensor) -> bool:
    """Whether the logits change when one unit is given the activation of another sample."""

    def swapped(output: Tensor) -> Tensor:
        result = output.clone()
        result.select(site.axis, unit).copy_(output.roll(1, 0).select(site.axis, unit))
        return result

    with transformed(model, {site.output: swapped}):
        moved = model(inputs)
    plain = model(inputs)
    return bool((moved - plain).abs().max() > 1e-5 * plain.abs().max())


@pytest.mark.parametrize("name", list(KINDS))
@torch.no_grad()
def test_a_unit_that_carries_is_live_and_one_that_reads_nothing_is_not(name: str) -> None:
    kind, model, inputs = KINDS[name], model_of(name, seed=1), inputs_of(name, 4)
    cut = {}
    for index, site in enumerate(kind.sites):  # one unit of each site reads nothing
        layer, unit = model.get_submodule(site.name), (3 * index + 1) % site.n_units
        if not isinstance(layer, (nn.MultiheadAttention, nn.ConvTranspose2d)):
            layer.weight[unit] = 0
            cut[site.name] = unit
    live = split_by_site(live_units(model, kind.sites, inputs), kind.sites)
    for site in kind.sites:
        chosen = range(0, site.n_units, max(1, site.n_units // 6))
        seen = {unit for unit in chosen if carries(model, site, unit, inputs)}
        assert seen
        assert all(live[site.name][unit] for unit in seen)
        if site.name in cut:
            assert not live[site.name][cut[site.name]]


@settings(max_examples=8)
@given(st.sampled_from([k for k in KINDS if k != "torchvision-resnet"]), st.integers(0, 10**6))
@torch.no_grad()
def test_without_a_path_the_masked_network_is_constant(name: str, seed: int) -> None:
    kind, model, inputs = KINDS[name], model_of(name), inputs_of(name, 6)
    random = torch.Generator().manual_seed(seed)
    n_units = sum(site.n_units for site in kind.sites)
    masks = torch.rand(6, n_units, generator=random) < torch.rand(6, 1, generator=random)
    masks[0], masks[1], masks[2] = True, False, True
    masks[2, : kind.sites[0].n_units] = False
    paths = has_path(model, kind.sites, masks, inputs)
    assert paths[0]
    assert not paths[1]
    for mask, path in zip(masks, paths, strict=True):
        with gated(model, kind.sites, split_by_site(mask, kind.sites)):
            assert path or float(model(inputs).std(0).max()) < 1e-6


@torch.no_grad()
def test_in_an_attention_the_units_of_every_place_are_followed() -> None:
    model, inputs = TinyAttention().double(), inputs_of("own-attention", 8).double()
    model.qkv.weight[1] = 0  # a query that is the same constant for all tokens
    model.qkv.weight[8 + 4] = 0  # and a key
    sites = find_sites(model, inputs)
    live = split_by_site(live_units(model, sites, inputs), sites)
    for site in sites:
        seen = [carries(model, site, unit, inputs) for unit in range(site.n_units)]
        assert live[site.name].tolist() == seen
    # the class token asks, which does not depend on the input; the others are asked, but do not ask
    assert [part.sum() for part in live["qkv"].split(8)] == [0, 7, 8]


class Gate(nn.Module):
    """Two numbers of the input, one through each layer, multiplied."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(2, 1), nn.Linear(2, 1), nn.Linear(1, 2)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.left(x), self.right(x)
        if self.kind == "glu":
            return self.head(functional.glu(torch.cat([a, b], 1), 1))
        if self.kind == "sigmoid":
            return self.head(a * torch.sigmoid(b))
        if self.kind == "cast":
            return self.head(a.float() * b.to(torch.float32))
        if self.kind == "einsum":
            return self.head(torch.einsum("nu,nu->nu", a, b))
        return self.head(torch.bmm(a[:, None], b[..., None])[:, 0])


@pytest.mark.parametrize("kind", ["glu", "sigmoid", "cast", "einsum", "bmm"])
@torch.no_grad()
def test_a_constant_factor_lets_the_other_factor_through(kind: str) -> None:
    model, inputs = Gate(kind), torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    model.left.weight.zero_()  # the left factor is its bias
    model.left.bias.fill_(2.0)
    sites = find_sites(model, inputs)
    assert live_units(model, sites, inputs).tolist() == [False, True]
    assert [carries(model, site, 0, inputs) for site in sites] == [False, True]
    # an ablated unit may be any constant, so one kept factor is a path; none is none
    masks = torch.tensor([[True, True], [False, True], [True, False], [False, False]])
    assert has_path(model, sites, masks, inputs).tolist() == [True, True, False, False]


@torch.no_grad()
def test_without_a_bias_a_factor_that_reads_nothing_stops_the_other() -> None:
    model, inputs = Gate("bmm"), torch.ones(1, 2)
    model.left.weight.zero_()
    model.left.bias.zero_()
    assert not live_units(model, find_sites(model, inputs), inputs).any()


@torch.no_grad()
@pytest.mark.parametrize(("mean", "shift"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_what_a_normalisation_adds_is_a_constant_factor(mean: float, shift: float) -> None:
    model, inputs = Gate("bmm"), torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    norm = nn.BatchNorm1d(1).eval()
    norm.running_mean.fill_(mean)
    norm.bias.fill_(shift)
    model.left = nn.Sequential(nn.Linear(2, 1, bias=False), norm)
    model.left[0].weight.zero_()
    sites = find_sites(model, inputs)
    assert [site.name for site in sites] == ["left.0", "right"]
    is_constant = mean != 0 or shift != 0
    assert carries(model, sites[1], 0, inputs) == is_constant
    assert live_units(model, sites, inputs).tolist() == [False, is_constant]


@torch.no_grad()
def test_products_of_a_deep_transformer_do_not_overflow() -> None:
    model = VisionTransformer(16, 8, 24, 2, 8, 8, num_classes=3)
    nn.init.ones_(model.heads.head.weight)
    example = torch.zeros(1, 3, 16, 16)
    sites = find_sites(model, example)
    model.encoder.layers[20].mlp[0].weight[3] = 0
    live = split_by_site(live_units(model, sites, example), sites)
    assert live.pop("encoder.layers.encoder_layer_20.mlp.0").nonzero().flatten().tolist() == [
        0, 1, 2, 4, 5, 6, 7,
    ]  # fmt: skip
    # of the last two layers not all tokens are read, but every unit is
    assert all(part.all() for part in live.values())
    masks = torch.ones(2, sum(site.n_units for site in sites), dtype=torch.bool)
    masks[1, : sites[0].n_units] = False  # all patches
    assert has_path(model, sites, masks, example).tolist() == [True, False]


class OwnLayer(nn.Module):
    """A layer of bare parameters, and a fixed filter, between two of torch's, and a constant."""

    def __init__(self, constant: float) -> None:
        super().__init__()
        self.first, self.head = nn.Conv1d(1, 2, 1), nn.Linear(2, 2)
        self.weight = nn.Parameter(torch.tensor([[1e-30, 0.0], [-1e-30, 0.0]]))
        self.register_buffer("filter", torch.full((2, 1, 3), 1e-30))
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv1d(self.first(x), self.filter, groups=2).mean(2)
        return self.head(functional.linear(x + self.constant, self.weight))


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_tiny_weights_of_a_users_own_layer_are_followed(constant: float) -> None:
    model, example = OwnLayer(constant), torch.zeros(1, 1, 5)
    sites = find_sites(model, example)
    assert live_units(model, sites, example).tolist() == [True, False]
    masks = torch.tensor([[True, False], [False, True]])
    assert has_path(model, sites, masks, example).tolist() == [True, False]


def test_many_dense_layers_do_not_overflow() -> None:
    layers = [layer for _ in range(60) for layer in (nn.Linear(20, 20), nn.ReLU())]
    model, example = nn.Sequential(*layers, nn.Linear(20, 2)), torch.zeros(1, 20)
    sites = find_sites(model, example)
    assert live_units(model, sites, example).all()
    assert has_path(model, sites, torch.ones(1, 1200, dtype=torch.bool), example).all()


class Shrinking(nn.Module):
    """Functions whose own derivative is 0 near 0, or that stop gradients, and casts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.softshrink(self.first(x).float().to(torch.float32), 5.0)
        return self.head(functional.hardshrink(self.second(x).detach().type_as(x)))


def test_a_function_that_is_flat_somewhere_is_no_end_of_a_path() -> None:
    model, example = Shrinking(), torch.zeros(1, 2)
    with torch.no_grad():
        model.second.weight[1] = 0
        model.second.weight[0, 0] = 0
    live = live_units(model, find_sites(model, example), example)
    assert live.tolist() == [False, True, True, False]


@torch.no_grad()
def test_an_upsampling_that_subtracts_is_refused_rather_than_guessed() -> None:
    # the padding ends the site, so its units are read through the upsampling
    between = nn.ZeroPad2d(0), nn.Upsample(scale_factor=2, mode="bicubic"), nn.Flatten()
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), *between, nn.Linear(64, 2))
    model[0].weight.zero_()
    model[0].weight[..., 0, 0] = 1.0  # of ones: 0 in the first row and column, 1 elsewhere
    edge = functional.pad(torch.ones(1, 1, 3, 3), (1, 0, 1, 0))
    model[4].weight.zero_()
    model[4].weight[0, model[2](edge).flatten().argmin()] = 1.0  # reads some less others
    example = torch.zeros(1, 1, 4, 4)
    sites = find_sites(model, example)
    expected = "forward of Sequential does something whose structure is not known"
    with pytest.raises(ValueError, match=expected):
        live_units(model, sites, example)
    with pytest.raises(ValueError, match=expected):
        has_path(model, sites, torch.ones(1, 1, dtype=torch.bool), example)


class Chooses(nn.Module):
    """A forward whose structure is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 4), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).topk(2).values)


def test_a_forward_that_cannot_be_followed_is_refused_by_name() -> None:
    model, example = Chooses(), torch.zeros(1, 3)
    sites = find_sites(model, example)
    expected = r"forward of Chooses does .* not known \(the structure of topk is not known\)"
    with pytest.raises(ValueError, match=expected):
        live_units(model, sites, example)
    with pytest.raises(ValueError, match=expected):
        has_path(model, sites, torch.ones(1, 4, dtype=torch.bool), example)
