from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_helpers import N_CLASSES, planted_mlp, planted_samples
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Circuit
from fedcircuit.circuits.edges.edge_circuit import EdgeCircuit, split_by_layer
from fedcircuit.circuits.edges.edge_layers import existing_edges, find_edge_layers, layer_references
from fedcircuit.circuits.edges.edge_paths import on_path
from fedcircuit.circuits.edges.reduced_model import edge_logits
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import masked
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples


def planted() -> tuple[nn.Module, Probe]:
    model, _ = planted_mlp()
    names = [str(c) for c in range(N_CLASSES)]
    return model, Probe.split(planted_samples(30, seed=0), names, 0)


@given(st.integers(0, 10**6), st.sampled_from([0.15, 0.3, 0.6]))
@settings(max_examples=30, deadline=None)
def test_edges_on_a_path_agree_with_a_walk_over_the_layers(seed: int, density: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    model, example = mlp(3, 5, 4, 3), torch.zeros(1, 3)
    layers = find_edge_layers(model, example)
    masks = torch.rand(6, 15 + 20 + 12, generator=generator) < density

    found = on_path(model, layers, masks, example)

    for row, mask in zip(found, masks, strict=True):
        assert torch.equal(row, walked(list(split_by_layer(mask, layers).values())))
    assert torch.equal(on_path(model, layers, found, example), found)


def test_an_edge_that_does_not_exist_is_no_way_through() -> None:
    model, example = mlp(1, 2, 1), torch.zeros(1, 1)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0], [-2.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
    layers = find_edge_layers(model, example)

    found = on_path(model, layers, torch.ones(1, 4, dtype=torch.bool), example)

    assert found.tolist() == [[False, True, False, True]]


def test_a_branch_is_a_path_of_its_own() -> None:
    model = build_model("resnet", (1, 8, 8), 2, seed=0, widths=(2, 2))
    example = torch.zeros(1, 1, 8, 8)
    layers = find_edge_layers(model, example)
    masks = {layer.name: torch.ones(layer.out_units, layer.in_units) > 0 for layer in layers}
    masks["3.conv2"][:] = False  # the first block's branch is cut, its shortcut is not
    masks["0"][1] = False  # and nothing but the shortcut's channel 0 leads on

    found = on_path(model, layers, EdgeCircuit(masks).flat()[None], example)[0]

    left = split_by_layer(found, layers)
    assert not left["3.conv1"].any()  # read by nobody
    assert left["0"].flatten().tolist() == [True, False]
    assert left["4.conv1"].tolist() == [[True, False], [True, False]]
    assert left["7"].all()


def walked(masks: list[Tensor]) -> Tensor:
    """Edges on a path by a plain walk over the layers of a chain: the independent route."""
    reached = [torch.ones(masks[0].shape[1], dtype=torch.bool)]
    for mask in masks:
        reached.append((mask & reached[-1]).any(1))
    read = [torch.ones(masks[-1].shape[0], dtype=torch.bool)]
    for mask in masks[::-1]:
        read.insert(0, (mask & read[0][:, None]).any(0))
    on = [
        mask & into[None] & out[:, None]
        for mask, into, out in zip(masks, reached, read[1:], strict=False)
    ]
    return torch.cat([part.flatten() for part in on])


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths[:-1]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_all_edges_out_of_a_unit_removed_are_the_unit_ablated(ablation: str) -> None:
    model = build_model("simple-cnn", (1, 8, 8), 3, seed=0, widths=(4, 5))
    generator = torch.Generator().manual_seed(0)
    samples = Samples(torch.randn(12, 1, 8, 8, generator=generator), torch.arange(12) % 3)
    sites, layers = (f(model, samples.inputs) for f in (find_sites, find_edge_layers))
    kwargs = {"n_classes": 3, "ablation": ablation}
    by_site = reference_activations(model, sites, samples, **kwargs)
    by_layer = layer_references(model, layers, samples, **kwargs)
    units = {"0": torch.tensor([1, 0, 1, 1]) > 0, "3": torch.tensor([0, 1, 1, 0, 1]) > 0}
    edges = {"0": torch.ones(4, 1) > 0, "3": units["0"].expand(5, 4), "7": units["3"].expand(3, 5)}
    with torch.no_grad(), masked(model, sites, Circuit(units), by_site):
        expected = model(samples.inputs)
    found = edge_logits(model, layers, EdgeCircuit(edges).flat(), samples.inputs, by_layer, batch=5)

    assert torch.allclose(found, expected, atol=1e-5)


def test_a_removed_edge_reads_the_reference_by_hand() -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -3.0]]))
        model.bias.fill_(0.5)
    inputs, references = torch.tensor([[1.0, 1.0], [4.0, 7.0]]), {"": torch.tensor([[10.0, 20.0]])}
    layers = find_edge_layers(model, inputs)

    logits = edge_logits(model, layers, torch.tensor([True, False]), inputs, references)

    # one logit z is the two logits 0 and z
    assert logits.tolist() == [[0.0, 2.0 - 60 + 0.5], [0.0, 8.0 - 60 + 0.5]]
    assert model.weight.tolist() == [[2.0, -3.0]]
    with pytest.raises(ValueError, match=r"must be bool of shape \[2\]"):
        edge_logits(model, layers, torch.tensor([True]), inputs, references)


def test_without_edges_the_model_is_constant_and_with_all_it_is_itself() -> None:
    model, probe = planted()
    inputs = probe.checking.inputs
    layers = find_edge_layers(model, inputs)
    references = layer_references(
        model, layers, probe.discovery, n_classes=N_CLASSES, ablation="mean"
    )
    every = torch.ones(len(existing_edges(model, layers)), dtype=torch.bool)

    assert torch.allclose(edge_logits(model, layers, every, inputs, references), model(inputs))
    empty = edge_logits(model, layers, ~every, inputs, references)
    assert (empty == empty[0]).all()
