import pytest
import torch
from edge_helpers import cnn, noise, scored
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits.edges.edge_circuit import EdgeCircuit, EdgeLayer, split_by_layer
from fedcircuit.circuits.edges.edge_layers import existing_edges, find_edge_layers, layer_references
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import rerouted
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples


def test_layers_channels_and_kernels_are_found() -> None:
    assert find_edge_layers(cnn(), torch.zeros(1, 2, 8, 8).double()) == (
        EdgeLayer("0", 4, 2, 9),
        EdgeLayer("3", 5, 4, 9),
        EdgeLayer("7", 3, 5, 4),  # the head reads channels of 2 x 2
    )


def test_channels_are_found_behind_functional_pooling_and_flattening() -> None:
    class Plain(nn.Module):
        def __init__(self, order: tuple[int, ...]) -> None:
            super().__init__()
            self.conv, self.one, self.two = nn.Conv2d(1, 3, 3), nn.Linear(12, 4), nn.Linear(4, 2)
            self.order = order

        def forward(self, x: Tensor) -> Tensor:
            x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
            return self.two(functional.relu(self.one(x.permute(self.order).flatten(1))))

    plain = find_edge_layers(Plain((0, 1, 2, 3)), torch.randn(1, 1, 6, 6))
    turned = find_edge_layers(Plain((0, 2, 3, 1)), torch.randn(1, 1, 6, 6))

    assert [(layer.in_units, layer.n_weights) for layer in plain] == [(1, 9), (3, 4), (4, 1)]
    assert [(layer.in_units, layer.n_weights) for layer in turned] == [(1, 9), (12, 1), (4, 1)]


def test_references_are_those_of_the_sites_a_layer_reads() -> None:
    model, samples = cnn(), noise()
    sites, layers = (f(model, samples.inputs) for f in (find_sites, find_edge_layers))
    by_site = reference_activations(model, sites, samples, n_classes=3, ablation="mean")
    by_layer = layer_references(model, layers, samples, n_classes=3, ablation="mean")

    assert by_site is not None
    assert torch.allclose(by_layer["3"], by_site["0"])
    assert torch.allclose(by_layer["7"], by_site["3"].flatten(1))
    assert by_layer["0"].shape == (1, 2, 8, 8)


def test_a_frequent_class_weighs_no_more_in_a_reference() -> None:
    samples = Samples(torch.tensor([[0.0], [0.0], [6.0]]), torch.tensor([0, 0, 1]))
    model = nn.Linear(1, 2)
    layers = find_edge_layers(model, samples.inputs)

    found = layer_references(model, layers, samples, n_classes=3, ablation="mean")

    assert layers[0].parameter == "weight"  # a model that is one layer
    assert found[""].tolist() == [[3.0]]


def test_an_edge_exists_if_one_weight_is_not_zero() -> None:
    model = cnn()
    with torch.no_grad():
        model[3].weight[1, 2] = 0
        model[3].weight[0, 0] = 0
        model[3].weight[0, 0, 1, 1] = -1e-9
    layers = find_edge_layers(model, noise().inputs)

    edges = split_by_layer(existing_edges(model, layers), layers)

    assert edges["3"].logical_not().nonzero().tolist() == [[1, 2]]
    assert edges["0"].all()
    assert split_by_layer(scored(model, noise()), layers)["3"][:, 1, 2].abs().sum() == 0


def test_the_sum_of_two_branches_is_one_input_unit() -> None:
    model = build_model("resnet", (2, 8, 8), 3, seed=0, widths=(3, 4)).double()
    samples = noise()
    layers = {layer.name: layer for layer in find_edge_layers(model, samples.inputs)}

    # the second block reads three channels of the first block's sum
    assert {name: layer.in_units for name, layer in layers.items()} == {
        "0": 2, "3.conv1": 3, "3.conv2": 3, "4.conv1": 3, "4.conv2": 4, "4.shortcut.0": 3, "7": 4,
    }  # fmt: skip
    assert scored(model, samples).isfinite().all()


def test_layers_without_a_place_of_their_own_are_refused() -> None:
    layer, example = nn.Linear(3, 3), torch.zeros(1, 3)
    with pytest.raises(ValueError, match="layer '0' of Sequential runs 2 times"):
        find_edge_layers(nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(3, 2)), example)
    twin = nn.Linear(3, 3)
    twin.weight = layer.weight
    with pytest.raises(ValueError, match="layers '0' and '1' share one weight"):
        find_edge_layers(nn.Sequential(layer, twin), example)
    grouped = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="convolution '0' has 2 groups"):
        find_edge_layers(grouped, torch.zeros(1, 4, 1, 1))
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="layer '0' has no weight of its own"):
        find_edge_layers(normed, example)
    turned = nn.Sequential(nn.ConvTranspose2d(4, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="layer '0' is a ConvTranspose2d; edges are defined for"):
        find_edge_layers(turned, torch.zeros(1, 4, 1, 1))
    with pytest.raises(ValueError, match="Sequential has no edges"):
        find_edge_layers(nn.Sequential(nn.ReLU()), example)


def test_references_refuse_what_they_cannot_give() -> None:
    model, samples = cnn(), noise()
    layers = find_edge_layers(model, samples.inputs)
    with pytest.raises(ValueError, match="'zero' or 'mean', got 'resample'"):
        layer_references(model, layers, samples, n_classes=3, ablation="resample")
    empty = samples.take(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one sample"):
        layer_references(model, layers, empty, n_classes=3, ablation="mean")


def test_an_edge_circuit_knows_its_sizes_and_its_complement() -> None:
    a = EdgeCircuit(
        {"x": torch.tensor([[True, False, True]]), "y": torch.tensor([[False], [True]])}
    )
    existing = EdgeCircuit({"x": torch.tensor([[1, 1, 0]]) > 0, "y": torch.tensor([[1], [1]]) > 0})

    assert (a.sizes, a.size, a.n_edges) == ({"x": 2, "y": 1}, 3, 5)
    assert a.flat().tolist() == [True, False, True, False, True]
    assert a.complement().flat().tolist() == [False, True, False, True, False]
    assert a.complement(existing).flat().tolist() == [False, True, False, True, False]
    assert existing.complement(a).flat().tolist() == [False, False, True, False, False]
    assert a.complement().complement() == a
    assert a != a.complement()
    assert a != "a"


def test_an_edge_circuit_refuses_other_masks_and_other_layers() -> None:
    with pytest.raises(ValueError, match="edge layer 'x' must be bool"):
        EdgeCircuit({"x": torch.ones(2, 2)})
    with pytest.raises(ValueError, match="edge layer 'x' must be bool"):
        EdgeCircuit({"x": torch.ones(2) > 0})
    a, b = (EdgeCircuit({"x": torch.ones(shape) > 0}) for shape in ((2, 3), (3, 2)))
    with pytest.raises(ValueError, match="must have the same layers"):
        a.complement(b)
    with pytest.raises(ValueError, match="in_units of edge layer 'x' must be >= 1"):
        EdgeLayer("x", 1, 0, 1)


def test_a_rerouted_layer_gives_a_function_of_its_input_and_output() -> None:
    model, inputs = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.randn(3, 2)
    with rerouted(model, {"0": lambda value, output: value - output}):
        ours = model(inputs)

    assert torch.equal(ours, functional.relu(inputs - model[0](inputs)))
    with pytest.raises(ZeroDivisionError), rerouted(model, {"0": lambda value, output: output}):
        1 / 0  # noqa: B018
    assert not model[0]._forward_hooks
