from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from fedcircuit.analysis.estimators.linear_probe import probe_labels
from fedcircuit.analysis.estimators.settings import InformationSettings
from fedcircuit.analysis.information.circuit_units import (
    BoolArray,
    CircuitInformation,
    RandomUnits,
    circuit_information,
    masks_of,
    random_sets,
    unit_values,
)
from fedcircuit.circuits.circuit import CircuitStack, Site
from fedcircuit.circuits.planted.cnn import planted_cnn
from fedcircuit.circuits.planted.mlp import planted_mlp
from fedcircuit.circuits.planted.network import PlantedNetwork
from fedcircuit.circuits.sites.finding import find_sites

BITS = InformationSettings(folds=3)
TWO = (Site("a", 4, -1, "a"), Site("b", 3, -1, "b"))


def flags(*units: int, n: int = 7) -> BoolArray:
    """A mask with these units set."""
    mask = np.zeros(n, dtype=np.bool_)
    mask[list(units)] = True
    return mask


def rows_of(
    net: PlantedNetwork, per_class: int, control: RandomUnits
) -> tuple[CircuitInformation, ...]:
    samples = net.samples(per_class, seed=5)
    values = unit_values(net.model, net.sites, samples.inputs, batch=64)
    masks = masks_of(net.truth, torch.ones(net.n_classes, dtype=torch.bool))
    labels = samples.labels.numpy()
    return circuit_information(values, labels, masks, net.sites, BITS, control=control)


def test_planted_circuits_know_their_class_and_no_more_and_random_units_a_bit_of_all() -> None:
    net = planted_mlp(n_classes=4, seed=0, widths=(48, 32))
    values = unit_values(net.model, net.sites, net.samples(40, seed=6).inputs)
    live = values.std(0) > 0
    rows = rows_of(net, 40, RandomUnits(sets=8, among=live, seed=0))
    all_bits = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert [(row.class_index, row.about) for row in rows] == [
        (c, about) for c in range(4) for about in ("class", "label")
    ]
    for row in rows[::2]:
        assert row.n_units == int(net.truth[row.class_index].sum())
        assert 0.99 * all_bits < row.value <= all_bits
        assert row.random_mean < row.value / 2
        assert row.random_std > 0
        assert row.random_below == 1.0
        assert (row.unit, row.reason) == ("bits", "")
    for row in rows[1::2]:  # a circuit tells its own class from the rest, not those from each other
        assert 0.8 * all_bits < row.value < all_bits + 0.05
        assert row.random_mean > row.value + 0.1
        assert row.random_below < 0.3


def test_values_of_convolutional_units_are_means_over_positions() -> None:
    net = planted_cnn(n_classes=3, seed=1, widths=(32, 32, 32))
    inputs = net.samples(3, seed=0).inputs
    whole, parts = (unit_values(net.model, net.sites, inputs, batch=b) for b in (100, 4))
    np.testing.assert_allclose(whole, parts, rtol=1e-5, atol=1e-6)
    assert whole.shape == (9, sum(site.n_units for site in net.sites))
    first = net.model.get_submodule(net.sites[0].name)
    assert isinstance(first, nn.Conv2d)
    with torch.no_grad():
        by_hand = nn.functional.max_pool2d(torch.relu(first(inputs)), 2).mean((2, 3))
    np.testing.assert_allclose(whole[:, : net.sites[0].n_units], by_hand.numpy(), rtol=1e-5)


def test_values_are_those_of_eval_mode_and_the_model_keeps_its_mode() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    inputs = torch.randn(6, 3)
    sites = find_sites(model, inputs)
    values = unit_values(model, sites, inputs)
    by_hand = torch.relu(inputs @ model[0].weight.T + model[0].bias).detach()
    np.testing.assert_allclose(values, by_hand.numpy(), rtol=1e-6)
    assert model.training
    assert unit_values(model, sites, inputs[:0]).shape == (0, 4)


def test_values_of_tokens_are_means_over_them() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Flatten(1), nn.Linear(20, 2))
    inputs = torch.arange(30.0).reshape(2, 5, 3) / 30
    sites = find_sites(model, inputs)
    assert sites[0].axis == -1
    by_hand = model[0](inputs).detach().mean(1)
    np.testing.assert_allclose(unit_values(model, sites, inputs), by_hand.numpy(), rtol=1e-5)


def test_random_sets_have_as_many_units_at_every_site_drawn_among_those_allowed() -> None:
    among = flags(0, 1, 2, 4, 5)
    mask = flags(1, 3, 4)
    sets = random_sets(mask, TWO, RandomUnits(sets=200, among=among, seed=3), stream=0)
    assert len(sets) == 200
    assert {(int(s[:4].sum()), int(s[4:].sum())) for s in sets} == {(2, 1)}
    drawn = np.mean(sets, axis=0)  # among 0 1 2 and its own 3; among 4 and 5
    np.testing.assert_allclose(drawn, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0], atol=0.12)
    again = random_sets(mask, TWO, RandomUnits(sets=200, among=among, seed=3), stream=0)
    assert all((one == two).all() for one, two in zip(sets, again, strict=True))
    other = random_sets(mask, TWO, RandomUnits(sets=200, among=among, seed=3), stream=1)
    assert any((one != two).any() for one, two in zip(sets, other, strict=True))


def test_the_rows_are_those_of_the_estimator_on_the_chosen_units() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    values = rng.standard_normal((90, 7))
    values[:, 2] += 3 * (labels == 1)
    control = RandomUnits(sets=5, seed=4)
    mask = flags(2, 4)
    rows = circuit_information(values, labels, [None, mask], TWO, BITS, control=control)
    about_class = (labels == 1).astype(np.int64)
    for row, target in ((rows[2], about_class), (rows[3], labels)):
        random = [
            probe_labels(values[:, s], target, BITS, seed=4).value
            for s in random_sets(mask, TWO, control, stream=1)
        ]
        assert row.value == probe_labels(values[:, [2, 4]], target, BITS, seed=4).value
        assert row.random_mean == pytest.approx(np.mean(random))
        assert row.random_std == pytest.approx(np.std(random, ddof=1))
        ties = sum(one == row.value for one in random)
        assert row.random_below == (sum(one < row.value for one in random) + ties / 2) / 5
    one = circuit_information(
        values, labels, [mask], TWO, BITS, control=RandomUnits(0, seed=4), about=("label",)
    )
    assert [(row.about, row.value) for row in one] == [("label", rows[3].value)]


def test_ties_count_half() -> None:
    labels = np.arange(40) % 2
    values = np.repeat(labels[:, None] + np.random.default_rng(0).random((40, 1)), 7, axis=1)
    control = RandomUnits(sets=3)
    row, _ = circuit_information(values, labels, [flags(0, 4)], TWO, BITS, control=control)
    assert row.random_below == 0.5
    assert row.random_std == pytest.approx(0.0, abs=1e-12)


def test_without_a_circuit_all_is_undefined() -> None:
    labels = np.arange(20) % 2
    stack = CircuitStack(
        TWO, ("global",), torch.zeros(1, 2, 7, dtype=torch.bool), torch.tensor([[False, True]])
    )
    masks = masks_of(stack.masks[0], stack.found[0])
    assert masks[0] is None
    rows = circuit_information(
        np.random.default_rng(0).random((20, 7)), labels, masks, TWO, BITS, control=RandomUnits(2)
    )
    for row in rows[:2]:
        assert (row.n_units, row.reason) == (0, "no circuit")
        numbers = (row.value, row.random_mean, row.random_std, row.random_below)
        assert all(map(math.isnan, numbers))
    for row in rows[2:]:  # a circuit without units
        assert (row.n_units, row.value, row.reason) == (0, 0.0, "no units")
        assert math.isnan(row.random_below)


def test_a_control_that_could_not_differ_is_undefined() -> None:
    labels = np.arange(40) % 2
    values = np.random.default_rng(0).random((40, 7)) + labels[:, None]

    def row(mask: BoolArray, labels: np.ndarray = labels, sets: int = 2) -> CircuitInformation:
        control = RandomUnits(sets=sets)
        return circuit_information(values, labels, [mask], TWO, BITS, control=control)[0]

    whole = row(flags(4, 5, 6))  # all of the second site, none of the first
    assert whole.value > 0
    assert math.isnan(whole.random_below)
    assert whole.reason == "no other units of these numbers"
    absent = row(flags(1), labels=labels + 1)  # no sample of class 0
    assert (absent.value, absent.reason) == (0.0, "one class only")
    assert math.isnan(absent.random_mean)
    unasked = row(flags(1), sets=0)
    assert unasked.value > 0
    assert math.isnan(unasked.random_mean)
    assert unasked.reason == ""
    one = row(flags(1), sets=1)
    assert math.isnan(one.random_std)
    assert not math.isnan(one.random_mean)


def test_a_silent_circuit_is_compared_with_random_units() -> None:
    labels = np.arange(40) % 2
    values = np.random.default_rng(0).random((40, 7)) + labels[:, None]
    values[:, 1] = 0.0
    control = RandomUnits(sets=20)
    row = circuit_information(values, labels, [flags(1)], TWO, BITS, control=control)[0]
    assert (row.value, row.reason) == (0.0, "the activations are constant")
    assert row.random_mean > 0
    assert row.random_below < 0.5


def test_misfits_are_refused() -> None:
    labels = np.arange(8) % 2
    with pytest.raises(ValueError, match=r"values must have 7 units.*got \(6,\)"):
        circuit_information(np.zeros((8, 6)), labels, [None], TWO, BITS, control=RandomUnits())
    with pytest.raises(ValueError, match=r"a mask must have 7 units.*got \(5,\)"):
        circuit_information(
            np.zeros((8, 7)), labels, [flags(n=5)], TWO, BITS, control=RandomUnits()
        )
    with pytest.raises(ValueError, match=r"among must have 7 units.*got \(5,\)"):
        circuit_information(
            np.zeros((8, 7)), labels, [None], TWO, BITS, control=RandomUnits(among=flags(n=5))
        )
    with pytest.raises(ValueError, match="sets must be >= 0, got -1"):
        RandomUnits(sets=-1)
