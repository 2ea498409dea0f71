import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits.circuit import Circuit, Site
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.gating import gate
from fedcircuit.circuits.sites.hooks import capture, gated, masked
from fedcircuit.learning.networks.models import build_model


def cnn() -> nn.Module:
    return build_model("simple-cnn", (1, 8, 8), 3, seed=0, widths=(4, 6))


def n_hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


def test_a_site_is_a_layer_with_the_unitwise_modules_that_follow_it() -> None:
    sites = find_sites(cnn(), torch.zeros(1, 1, 8, 8))

    assert sites == (Site("0", 4, 1, "2"), Site("3", 6, 1, "5"))  # the head is none


def test_a_residual_sum_ends_the_chain_also_when_it_is_made_in_place() -> None:
    class Residual(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU()
            self.head = nn.Linear(4, 2)
            self.in_place = in_place

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            inner = self.norm(self.second(x))
            if self.in_place:
                inner += x
            else:
                inner = inner + x
            return self.head(self.relu(inner).mean((2, 3)))

    for in_place in (False, True):
        sites = find_sites(Residual(in_place), torch.zeros(1, 1, 4, 4))
        assert [site.output for site in sites] == ["first", "norm"]


def test_functional_activations_leave_the_layer_itself_as_the_site() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(functional.relu(self.one(x)))

    assert find_sites(Plain(), torch.zeros(1, 3)) == (Site("one", 5, -1, "one"),)


def test_a_shared_activation_does_not_make_two_sites_one() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 3), relu, nn.Linear(3, 3), relu, nn.Linear(3, 2))

    assert [site.output for site in find_sites(model, torch.zeros(1, 2))] == ["1#0", "1#1"]


def test_a_layer_used_twice_and_a_model_without_sites_are_refused() -> None:
    layer = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="layer '0' of Sequential runs 2 times"):
        find_sites(nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(3, 2)), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="has no sites: .* found 1 in all"):
        find_sites(nn.Linear(3, 2), torch.zeros(1, 3))


def test_modes_and_hooks_are_given_back_also_when_the_model_raises() -> None:
    model = cnn().train()
    model[1].eval()
    with pytest.raises(ValueError, match=r"does not take inputs of shape \(1, 2, 8, 8\)"):
        find_sites(model, torch.zeros(1, 2, 8, 8))
    assert n_hooks(model) == 0
    assert model.training
    assert not model[1].training
    sites = find_sites(model, torch.zeros(1, 1, 8, 8))
    with pytest.raises(ZeroDivisionError), capture(model, sites):
        1 / 0  # noqa: B018
    assert n_hooks(model) == 0


def test_zero_masking_a_channel_equals_zeroing_the_weights_that_read_it() -> None:
    model, inputs = cnn(), torch.randn(5, 1, 8, 8)
    sites = find_sites(model, inputs)
    circuit = Circuit({"0": torch.tensor([1, 0, 1, 1]) > 0, "3": torch.ones(6) > 0})
    with masked(model, sites, circuit):
        ours = model(inputs)
    with torch.no_grad():
        model[3].weight[:, 1] = 0

    assert torch.allclose(ours, model(inputs), atol=1e-6)


def test_a_reference_takes_the_place_of_closed_units() -> None:
    activation = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    result = gate(activation, torch.tensor([1.0, 0.0]), -1, torch.tensor([[10.0, 20.0]]))

    assert result.tolist() == [[1.0, 20.0], [3.0, 20.0]]


def test_every_sample_can_have_gates_of_its_own() -> None:
    activation = torch.ones(2, 3, 2, 2)

    result = gate(activation, torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 1.0]]), 1)

    assert result[:, :, 0, 0].tolist() == [[1.0, 0.0, 0.5], [0.0, 1.0, 1.0]]


@given(st.integers(0, 100))
def test_open_gates_change_nothing_whatever_the_reference(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    model, inputs = cnn(), torch.randn(3, 1, 8, 8, generator=generator)
    sites = find_sites(model, inputs)
    with capture(model, sites) as seen:
        plain = model(inputs)
    reference = {
        name: torch.randn(1, *a.shape[1:], generator=generator) for name, a in seen.items()
    }
    gates = {site.name: torch.ones(site.n_units) for site in sites}

    with gated(model, sites, gates, reference):
        assert torch.allclose(model(inputs), plain, atol=1e-6)
