"""Which layers follow one another, and which models are no chain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rule_helpers import round_of_clients
from torch import nn

from fedcircuit.aggregation import RuleError
from fedcircuit.aggregation.layers.chain import Link, chain, inputs_of, permuted
from fedcircuit.learning import Weights, get_weights


def links_of(model: nn.Module, weights: Weights | None = None) -> tuple[Link, ...]:
    own = get_weights(model) if weights is None else weights
    return chain("test", model, round_of_clients(own, [own]))


def test_layers_come_in_order_with_the_norm_right_behind_them() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout(), nn.Identity(), nn.BatchNorm2d(2)),
        nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), nn.Tanh(), nn.Linear(3, 2),
    )  # fmt: skip
    assert links_of(model) == (Link("0.0", "0.3"), Link("3"), Link("5"))
    assert list(Link("0.0", "0.3").vectors()) == [
        "0.0.bias", "0.3.weight", "0.3.bias", "0.3.running_mean", "0.3.running_var"
    ]  # fmt: skip
    assert list(Link("0.0", "0.3").learned()) == [
        "0.0.weight", "0.0.bias", "0.3.weight", "0.3.bias"
    ]  # fmt: skip
    assert list(Link("3").vectors()) == ["3.bias"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)), "'0' is not"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.BatchNorm1d(2)), "'2' is not"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2)), "'2' is not"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.MaxPool2d(2), nn.BatchNorm2d(2)), "'2' is not"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), "'1' is a Softmax"),
    ],
)
def test_what_is_no_chain_is_refused_by_name(model: nn.Module, words: str) -> None:
    with pytest.raises(RuleError, match=words):
        links_of(model)


def test_weights_under_other_names_are_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    numbered = {str(k): v for k, v in enumerate(get_weights(model).values())}
    with pytest.raises(RuleError, match=r"0\.weight is not among \['0', '1', '2', '3'\]"):
        links_of(model, numbered)


def test_units_change_places_by_hand_behind_flattened_maps_too() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1))
    weights = {
        "0.weight": np.array([[[[1.0]]], [[[2.0]]]]),
        "0.bias": np.array([3.0, 4.0]),
        "3.weight": np.array([[10.0, 11.0, 20.0, 21.0]]),  # two places of channel 0, two of 1
        "3.bias": np.array([5.0]),
    }
    got = permuted(weights, links_of(model, weights), [np.array([1, 0])])
    assert got["0.weight"].ravel().tolist() == [2.0, 1.0]
    assert got["0.bias"].tolist() == [4.0, 3.0]
    assert got["3.weight"].tolist() == [[20.0, 21.0, 10.0, 11.0]]
    assert got["3.bias"].tolist() == [5.0]
    assert inputs_of(weights["3.weight"], 2).tolist() == [[[10.0, 11.0], [20.0, 21.0]]]


def test_three_units_go_to_the_places_that_are_said_and_not_back() -> None:
    model = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Linear(3, 1, bias=False))
    weights = {"0.weight": np.array([[1.0], [2.0], [3.0]]), "1.weight": np.array([[4.0, 5.0, 6.0]])}
    got = permuted(weights, links_of(model, weights), [np.array([1, 2, 0])])
    assert got["0.weight"].ravel().tolist() == [2.0, 3.0, 1.0]
    assert got["1.weight"].tolist() == [[5.0, 6.0, 4.0]]
    assert torch.equal(torch.from_numpy(weights["0.weight"]).ravel(), torch.tensor([1.0, 2, 3]))
