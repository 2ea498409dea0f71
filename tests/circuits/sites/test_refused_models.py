"""Models whose units cannot be gated by sample are refused, with what to do about it."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fedcircuit import discover
from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.paths.connectivity import live_units
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import gated


class CutOff(nn.Sequential):
    """Logits that no derivative passes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


@pytest.mark.parametrize("method", ["attribution", "integrated", "gates", "magnitude"])
def test_logits_without_a_gradient_are_refused_in_words(method: str) -> None:
    model = CutOff(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    samples = (torch.randn(20, 3), torch.arange(20) % 2)
    with pytest.raises(ValueError, match=r"the logits have no gradient: .* \.detach\(\)"):
        discover(model, samples, method=method)


def mlp(*, shared: bool = False) -> nn.Sequential:
    layer = nn.Linear(3, 3)
    second = layer if shared else nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), second, nn.Tanh(), nn.Linear(3, 2))


def n_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Around(nn.Module):
    """A forward of its own around parts."""

    def __init__(self, inner: nn.Module, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = inner, kind
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor, *more: Tensor) -> object:
        if self.kind == "tuple":
            return self.head(self.inner(x)), x
        if self.kind == "recurrent":
            return self.head(self.inner(self.inner(x)))
        if self.kind == "tokens first":
            return self.head(self.inner(x.transpose(0, 1)).mean(0))
        if self.kind == "mixed":
            return self.head(self.inner(x + x.mean(0)))
        return self.head(self.inner(x))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layer(x + y)


class Doubled(nn.MultiheadAttention):
    """A subclass that computes something else."""

    def forward(self, *args, **options):  # type: ignore[no-untyped-def]
        output, weights = super().forward(*args, **options)
        return output.relu(), weights


class Attends(nn.Module):
    def __init__(self, attention: nn.MultiheadAttention, kind: str = "") -> None:
        super().__init__()
        self.attention, self.head, self.kind = attention, nn.Linear(4, 2), kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "alone":
            return self.head(torch.stack([self.attention(t, t, t)[0].mean(0) for t in x]))
        if self.kind == "one":
            return self.head(self.attention(x[0], x[0], x[0])[0].mean(0))[None]
        return self.head(self.attention(x, x, x)[0].mean(1))


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against it
        module: nn.Module = torch.jit.trace(mlp(), torch.zeros(1, 3))
    return module


REFUSED = {
    "a layer that runs twice": (
        lambda: mlp(shared=True), (3,), "layer '0' of Sequential runs 2 times .* one layer for each"
    ),
    "a recurrence": (
        lambda: Around(nn.Linear(3, 3), "recurrent"), (3,), "layer 'inner' of Around runs 2 times"
    ),
    "an attention that runs sample by sample": (
        lambda: Attends(nn.MultiheadAttention(4, 2), "alone"),
        (5, 4),
        "calls 2 modules for one sample, but 3 for two; .* whole batch at once",
    ),
    "an attention without a batch": (
        lambda: Attends(nn.MultiheadAttention(4, 2), "one"), (5, 4), "for one sample and .* for two"
    ),
    "an attention that does something else": (
        lambda: Attends(Doubled(4, 2, batch_first=True)),
        (5, 4),
        "heads of attention 'attention' cannot be gated: .* Build it of linear layers",
    ),
    "an attention that takes samples for tokens": (
        lambda: Attends(nn.MultiheadAttention(4, 2)), (5, 4), "batch_first=True"
    ),
    "no site": (lambda: nn.Linear(3, 2), (3,), "has no sites: expected at least one convolution"),
    "two outputs": (
        lambda: Around(nn.Linear(3, 3), "tuple"), (3,), "one tensor, its logits .*, got tuple"
    ),
    "two inputs": (TwoInputs, (3,), "TwoInputs must take one tensor .* wrap it"),
    "tokens before samples": (
        lambda: Around(nn.Linear(3, 3), "tokens first"), (4, 3), "samples must be axis 0"
    ),
    "samples that are mixed": (
        lambda: Around(nn.Linear(3, 3), "mixed"), (3,), "depends on the other samples"
    ),
    "a lazy layer": (
        lambda: nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)), (3,), "'0' of .* \\(lazy\\); run"
    ),
    "a compiled model": (
        lambda: torch.compile(mlp()), (3,), "is compiled, .* give the module before torch.compile"
    ),
    "a traced model": (traced, (3,), "TorchScript module, .* give the module it was"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_gated_by_sample_is_refused(name: str) -> None:
    build, shape, message = REFUSED[name]
    model = build()
    before = n_hooks(model)
    inputs = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=message):
        find_sites(model, inputs)
    assert n_hooks(model) == before


@torch.no_grad()
def test_two_layers_that_share_one_parameter_are_two_sites() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    model[2].weight = model[0].weight
    nn.init.eye_(model[0].weight)
    model[4].weight.fill_(1.0)
    for layer in (model[0], model[2], model[4]):
        layer.bias.zero_()
    sites = find_sites(model, torch.zeros(1, 3))
    assert sites == (Site("0", 3, -1, "1"), Site("2", 3, -1, "3"))
    assert live_units(model, sites, torch.zeros(1, 3)).all()

    gates = {"0": torch.tensor([1.0, 1.0, 0.0]), "2": torch.tensor([0.0, 1.0, 1.0])}
    with gated(model, sites, gates):
        assert model(torch.tensor([[1.0, 2.0, 4.0]])).tolist() == [[2.0, 2.0]]


def test_a_parametrized_layer_is_a_site_and_its_weights_are_followed() -> None:
    model = mlp()
    parametrizations.weight_norm(model[2])
    with torch.no_grad():
        model[2].parametrizations.weight.original0[1] = 0  # the length of row 1
    sites = find_sites(model, torch.zeros(1, 3))
    assert [site.name for site in sites] == ["0", "2"]
    assert live_units(model, sites, torch.zeros(1, 3)).tolist() == [True] * 4 + [False, True]
