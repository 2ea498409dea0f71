import copy
from collections.abc import Mapping, Sequence

import pytest
import torch
from edge_helpers import cnn, noise, scored
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits.edges.edge_circuit import EdgeLayer, split_by_layer
from fedcircuit.circuits.edges.edge_layers import find_edge_layers, layer_references
from fedcircuit.circuits.edges.reduced_model import edge_logits
from fedcircuit.circuits.edges.scoring import edge_effects, edge_scores
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.search.effects import mean_effects
from fedcircuit.circuits.search.gradients import separation_weights, shared_gradients
from fedcircuit.circuits.search.protocol import Meter, Task
from fedcircuit.circuits.search.searched_model import searched
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.samples import Samples


def removed_one_by_one(
    model: nn.Module,
    layers: Sequence[EdgeLayer],
    samples: Samples,
    references: Mapping[str, Tensor],
) -> Tensor:
    """Drop of every separation when one edge alone is removed, ``[classes, edges]``."""
    full = torch.ones(sum(layer.n_edges for layer in layers), dtype=torch.bool)
    whole = separations(
        edge_logits(model, layers, full, samples.inputs, references), samples.labels
    )
    drops = []
    for edge in range(len(full)):
        mask = full.clone()
        mask[edge] = False
        logits = edge_logits(model, layers, mask, samples.inputs, references)
        drops.append(whole - separations(logits, samples.labels))
    return torch.stack(drops, dim=1)


def separations(logits: Tensor, labels: Tensor) -> Tensor:
    """Separation of every class, ``[classes]``."""
    n_classes = logits.shape[1]
    return torch.stack(
        [(logits * separation_weights(labels, n_classes, c)).sum() for c in range(n_classes)]
    )


def test_a_score_by_hand() -> None:
    # logit 0 = 3 x0 + x1, logit 1 = 5 x1; class 0 at (2, 0), class 1 at (0, 1); means (1, 0.5)
    model = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 1.0], [0.0, 5.0]]))
    samples = Samples(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    layers = find_edge_layers(model, samples.inputs)
    references = layer_references(model, layers, samples, n_classes=2, ablation="mean")

    scores = edge_scores(model, layers, samples, references, n_classes=2)

    # t_0 = z0 - z1, so sep_0 moves by W (x(class 0) - x(class 1)), of logit 1 negatively
    assert layers == (EdgeLayer("0", 2, 2, 1),)
    assert references["0"].tolist() == [[1.0, 0.5]]
    assert torch.allclose(scores[0], torch.tensor([6.0, -1.0, 0.0, 5.0]))
    assert torch.allclose(scores[1], torch.tensor([6.0, -1.0, 0.0, 5.0]))
    zero = layer_references(model, layers, samples, n_classes=2, ablation="zero")
    assert zero["0"].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("ablation", ["mean", "zero"])
@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_edges_of_a_unit_sum_to_its_own_score(ablation: str, seed: int) -> None:
    model, samples = cnn(seed), noise(seed)
    sites = find_sites(model, samples.inputs)
    reference = reference_activations(model, sites, samples, n_classes=3, ablation=ablation)
    gates = torch.ones(9, dtype=torch.float64)
    with searched(model, sites, Task(samples, 3, reference), torch.Generator()) as here:
        units = shared_gradients(here, gates)

    edges = split_by_layer(
        scored(model, samples, ablation), find_edge_layers(model, samples.inputs)
    )

    sums = torch.cat([edges["3"].sum(1), edges["7"].sum(1)], dim=1)
    assert torch.allclose(sums, units, atol=1e-5)


@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_scores_are_exact_effects_where_the_network_is_linear_in_each_edge(ablation: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 2, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).double()
    samples = noise(1)
    layers = find_edge_layers(model, samples.inputs)
    references = layer_references(model, layers, samples, n_classes=3, ablation=ablation)

    exact = removed_one_by_one(model, layers, samples, references)

    assert torch.allclose(scored(model, samples, ablation).double(), exact, atol=1e-5)


def test_scores_are_the_slope_of_the_exact_effect_in_any_network() -> None:
    model, samples = cnn(3), noise(3)
    layers = find_edge_layers(model, samples.inputs)
    references = layer_references(model, layers, samples, n_classes=3, ablation="mean")
    step, name = 1e-6, "3"
    wanted = split_by_layer(scored(model, samples), layers)[name]
    pushed = copy.deepcopy(model)
    weight = model.get_submodule(name).weight.detach()
    mean = references[name]
    whole = separations(model(samples.inputs), samples.labels)
    for out, channel in ((0, 0), (2, 3), (4, 1)):
        # a little of the edge reads the reference: less weight, and a constant map instead
        part = torch.zeros_like(weight)
        part[out, channel] = step * weight[out, channel]
        constant = functional.conv2d(mean, part, padding=1)
        with torch.no_grad():
            pushed[3].weight.copy_(weight - part)
            value = pushed[2](pushed[1](pushed[0](samples.inputs)))
            logits = nn.Sequential(*list(pushed)[4:])(pushed[3](value) + constant)
            slope = (whole - separations(logits, samples.labels)) / step
        assert torch.allclose(slope, wanted[:, out, channel].double(), atol=1e-4)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_scores_follow_a_permutation_of_units(seed: int) -> None:
    model, samples = cnn(seed), noise(seed)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    permuted = copy.deepcopy(model)
    with torch.no_grad():
        permuted[0].weight.copy_(model[0].weight[order])
        permuted[0].bias.copy_(model[0].bias[order])
        permuted[3].weight.copy_(model[3].weight[:, order])
    layers = find_edge_layers(model, samples.inputs)

    before = split_by_layer(scored(model, samples), layers)
    after = split_by_layer(scored(permuted, samples), layers)

    assert torch.allclose(after["0"], before["0"][:, order], atol=1e-6)
    assert torch.allclose(after["3"], before["3"][:, :, order], atol=1e-6)
    assert torch.allclose(after["7"], before["7"], atol=1e-6)


def test_more_samples_than_fit_in_a_pass_score_the_same() -> None:
    model, samples = cnn(), noise()
    layers = find_edge_layers(model, samples.inputs)

    def effects(rows: int) -> dict[int, Tensor]:
        reference = layer_references(
            model, layers, samples, n_classes=3, ablation="mean", rows=rows
        )
        found = edge_effects(model, layers, samples, reference, n_classes=3, rows=rows)
        return dict(found)

    whole, parts = effects(500), effects(7)

    assert list(parts) == list(whole) == [0, 1, 2]
    assert all(torch.allclose(parts[c], whole[c], atol=1e-6) for c in whole)


def test_a_model_is_left_as_it_came() -> None:
    model, samples = cnn().train(), noise()
    state = copy.deepcopy(model.state_dict())

    scored(model, samples)

    assert model.training
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_effects_by_true_class_sum_to_those_of_the_units() -> None:
    model, samples = cnn(4), noise(4)
    sites, layers = (f(model, samples.inputs) for f in (find_sites, find_edge_layers))
    by_site = reference_activations(model, sites, samples, n_classes=3, ablation="mean")
    by_layer = layer_references(model, layers, samples, n_classes=3, ablation="mean")
    every = [torch.full_like(samples.labels, c) for c in range(3)]
    meter = Meter()
    with searched(model, sites, Task(samples, 3, by_site), torch.Generator()) as here:
        units = [found.mean for found in mean_effects(here, every)]

    effects = dict(edge_effects(model, layers, samples, by_layer, n_classes=3, meter=meter))

    for label, found in effects.items():
        edges = split_by_layer(found, layers)
        sums = torch.cat([edges["3"].sum(1), edges["7"].sum(1)], dim=1)
        wanted = torch.stack([target[label] for target in units])
        assert torch.allclose(sums, wanted, atol=1e-5)
    assert list(effects) == [0, 1, 2]
    assert (meter.forward, meter.backward) == (30, 90)


def test_half_a_score_is_against_the_class_that_the_edge_separates_best() -> None:
    model, samples = cnn(5), noise(5)
    layers = find_edge_layers(model, samples.inputs)
    references = layer_references(model, layers, samples, n_classes=3, ablation="mean")
    of = dict(edge_effects(model, layers, samples, references, n_classes=3))

    both, every = (scored(model, samples, against=against) for against in ("both", "all"))

    best = of[0][0] - torch.minimum(of[1][0], of[2][0])
    assert torch.allclose(both[0], (best + of[0][0] - (of[1][0] + of[2][0]) / 2) / 2)
    assert torch.allclose(every[2], of[2][2] - (of[0][2] + of[1][2]) / 2)
    with pytest.raises(ValueError, match="against must be one of .* got 'none'"):
        scored(model, samples, against="none")


@pytest.mark.parametrize("against", ["both", "all"])
def test_a_class_without_samples_has_no_scores_and_is_nobodys_contrast(against: str) -> None:
    model, samples = cnn(), noise()
    pair = samples.take(samples.labels != 1)

    scores = scored(model, pair, against=against)

    assert scores[1].isnan().all()
    assert scores[[0, 2]].isfinite().all()
    assert torch.allclose(scores, scored(model, pair, against="all"), equal_nan=True)
    assert scored(model, samples.take(samples.labels == 1), against=against).isnan().all()
