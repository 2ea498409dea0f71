"""Weight matching: permuted copies are found again; REPAIR gives units their spread back."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from rule_helpers import fedavg, round_of_clients
from rule_rounds import sequential_cnn
from torch import nn
from toy_federation import N_CLASSES, bits, build_net

from fedcircuit.aggregation import NO_STATE, RuleError, Setting, Updates
from fedcircuit.aggregation.layers import WeightMatching
from fedcircuit.aggregation.layers.chain import chain, permuted
from fedcircuit.learning import Weights, get_weights, set_weights
from fedcircuit.samples import Samples


def inputs_of(model: nn.Module) -> torch.Tensor:
    shape = (40, 6) if isinstance(model[0], nn.Linear) else (40, 1, 4, 4)  # type: ignore[index]
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def settled(model: nn.Module) -> nn.Module:
    """Batch norm with statistics and scales of its own."""
    generator = torch.Generator().manual_seed(4)
    for name, value in model.state_dict().items():
        if value.ndim == 1 and value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5 * ("bias" not in name))
    return model.eval()


def shuffled(weights: Weights, model: nn.Module, seed: int) -> Weights:
    updates = round_of_clients(weights, [weights])
    links = chain("test", model, updates)
    rng = np.random.default_rng(seed)
    places = [rng.permutation(len(weights[f"{link.layer}.weight"])) for link in links[:-1]]
    return permuted(weights, links, places)


@pytest.mark.parametrize("build", [build_net, sequential_cnn])
def test_permuted_units_leave_the_function_as_it_was(build: object) -> None:
    model = settled(build())  # type: ignore[operator]
    inputs = inputs_of(model)
    with torch.no_grad():
        before = model(inputs)
        set_weights(model, shuffled(get_weights(model), model, 0))
        np.testing.assert_allclose(model(inputs), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [build_net, sequential_cnn])
@pytest.mark.parametrize("seed", range(5))
def test_a_permuted_copy_is_recovered_exactly(build: object, seed: int) -> None:
    model = settled(build())  # type: ignore[operator]
    own = get_weights(model)
    other = shuffled(own, model, seed)
    updates = round_of_clients(own, [own, other], None, [12, 4])
    got, _ = WeightMatching()(updates, fedavg(updates), Setting(model=model), NO_STATE)
    assert max(np.abs(got[name] - values).max() for name, values in own.items()) == 0


def best_of_all(updates: Updates, model: nn.Module) -> float:
    """The least squared distance between two clients over all orders of one hidden layer."""
    links = chain("test", model, updates)
    one, other = (update.weights for update in updates.clients)
    names = [name for link in links for name in link.learned() if name in one]
    distances = []
    for order in itertools.permutations(range(5)):
        turned = permuted(other, links, [np.array(order)])
        distances.append(sum(float(((one[n] - turned[n]) ** 2).sum()) for n in names))
    return min(distances)


@pytest.mark.parametrize("seed", range(4))
def test_one_hidden_layer_is_matched_as_well_as_by_trying_all_orders(seed: int) -> None:
    model = build_net()
    rng = np.random.default_rng(seed)
    weights = [
        {name: rng.normal(size=v.shape).astype(v.dtype) for name, v in get_weights(model).items()}
        for _ in range(2)
    ]
    updates = round_of_clients(get_weights(model), weights, None, [9, 5])
    links = chain("test", model, updates)
    places = WeightMatching().places(updates.clients[0], updates.clients[1], links)
    turned = permuted(weights[1], links, places)
    names = [name for link in links for name in link.learned()]
    found = sum(float(((weights[0][n] - turned[n]) ** 2).sum()) for n in names)
    assert found == pytest.approx(best_of_all(updates, model), rel=1e-5)


def test_clients_near_a_common_start_stay_in_place_and_the_average_is_untouched() -> None:
    model = settled(sequential_cnn())
    own = get_weights(model)
    rng = np.random.default_rng(0)
    near = [
        {n: (v + 0.01 * rng.normal(size=v.shape)).astype(v.dtype) for n, v in own.items()}
        for _ in range(3)
    ]
    updates = round_of_clients(own, near)
    probe = Samples(inputs_of(model), torch.arange(40) % N_CLASSES)
    average = fedavg(updates)
    got, _ = WeightMatching()(updates, average, Setting(model=model, probe=probe), NO_STATE)
    assert bits(got) == bits(average)


def spreads(model: nn.Module, weights: Weights, inputs: torch.Tensor) -> np.ndarray:
    set_weights(model, weights)
    with torch.no_grad():
        return model.eval()[0](inputs).std(0, correction=0).numpy()  # type: ignore[index]


def test_repair_gives_units_the_mean_spread_of_the_clients() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    rng = np.random.default_rng(1)
    weights = [
        {n: rng.normal(size=v.shape).astype(v.dtype) for n, v in get_weights(model).items()}
        for _ in range(2)
    ]
    inputs = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    probe = Samples(inputs, torch.arange(200) % 2)
    updates = round_of_clients(weights[0], weights, None, [3, 1])
    average, given = fedavg(updates), Setting(2, model, probe)
    rule = WeightMatching(repair=True)
    got, _ = rule(updates, average, given, NO_STATE)
    links = chain("test", model, updates)
    places = rule.places(updates.clients[0], updates.clients[1], links)
    aligned = [weights[0], permuted(weights[1], links, places)]
    goal = sum(p * spreads(model, w, inputs) for p, w in zip((0.75, 0.25), aligned, strict=True))
    np.testing.assert_allclose(spreads(model, got, inputs), goal, rtol=1e-4)
    plain, _ = replace(rule, repair=False)(updates, average, given, NO_STATE)
    assert (spreads(model, plain, inputs) < goal).all()  # what REPAIR is for
    np.testing.assert_array_equal(got["4.weight"], plain["4.weight"])  # the head stays


def test_repair_gives_batch_norm_the_statistics_of_the_probe() -> None:
    model = settled(build_net())
    own = get_weights(model)
    inputs = inputs_of(model)
    updates = round_of_clients(own, [own, shuffled(own, model, 3)])
    given = Setting(N_CLASSES, model, Samples(inputs, torch.arange(40) % N_CLASSES))
    got, _ = WeightMatching()(updates, fedavg(updates), given, NO_STATE)
    came = inputs.double() @ torch.from_numpy(own["0.weight"]).double().T  # type: ignore[arg-type]
    came = came + torch.from_numpy(own["0.bias"]).double()  # type: ignore[arg-type]
    np.testing.assert_allclose(got["1.running_mean"], came.mean(0), rtol=1e-5)
    np.testing.assert_allclose(got["1.running_var"], came.var(0), rtol=1e-5)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x)) + x)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Branching(), "needs an nn.Sequential .* got a Branching"),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)), "'1' is a LayerNorm"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, groups=2)), "grouped Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2)), "right behind a layer"),
    ],
)
def test_other_models_are_refused_in_words(model: nn.Module, words: str) -> None:
    updates = round_of_clients(get_weights(model), [get_weights(model)])
    with pytest.raises(RuleError, match=words):
        WeightMatching()(updates, fedavg(updates), Setting(model=model), NO_STATE)


def test_repair_without_a_probe_and_negative_sweeps_are_refused() -> None:
    own = get_weights(build_net())
    updates = round_of_clients(own, [own])
    with pytest.raises(RuleError, match="REPAIR needs a probe"):
        WeightMatching(repair=True)(updates, own, Setting(model=build_net()), NO_STATE)
    with pytest.raises(ValueError, match="sweeps must be >= 0"):
        WeightMatching(sweeps=-1)
