"""What rules share: dtypes, names of trained tensors, movements, and bytes that clients sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from fedcircuit.aggregation import (
    NO_STATE,
    Rule,
    RuleError,
    Setting,
    Update,
    Updates,
    class_shares,
    floating,
    in_float64,
    moved,
    packed_tensors,
    result,
    said_tensors,
    trained,
)
from fedcircuit.aggregation.drift import FedDyn, FedNova
from fedcircuit.aggregation.layers import Ties
from fedcircuit.learning import Weights

BEFORE = {"w": np.array([1.0, 2.0], np.float32), "b": np.array([0.5], np.float32)}


def test_a_movement_is_counted_from_where_the_client_started() -> None:
    """A masked download: the client had 0 where the global weight is 2."""
    own = {"w": np.array([1.5, 0.25], np.float32), "b": np.array([1.0], np.float32)}
    update = Update("a", 1, own, start={"w": np.array([1.0, 0.0], np.float32)})
    updates = Updates(1, BEFORE, (update,))
    assert moved(updates, update, "w").tolist() == [0.5, 0.25]
    assert moved(updates, update, "b").tolist() == [0.5]  # it started there as all did
    assert moved(updates, update, "w").dtype == np.float64


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Ties(keep=1.0), [1.5, 2.25]),  # one client: all of its movement
        (FedNova(), [1.5, 2.25]),
        (FedDyn(alpha=1.0), [2.0, 2.5]),  # twice the movement: the average and minus the drift
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_rules_of_movements_add_them_to_the_global_weights(
    rule: Rule, expected: list[float]
) -> None:
    own = {"w": np.array([1.5, 0.25], np.float32), "b": BEFORE["b"]}
    start = {"w": np.array([1.0, 0.0], np.float32)}
    one = Update("a", 1, own, {"local-steps": 1, "feddyn-alpha": 1.0}, start)
    other = replace(one, client="b", said={"local-steps": 3, "feddyn-alpha": 1.0})
    if isinstance(rule, FedNova):  # steps differ: half of each, by 2 steps on average
        expected = [1.0 + (0.5 / 1 + 0.5 / 3), 2.0 + (0.25 / 1 + 0.25 / 3)]
    average = {**BEFORE, "w": np.array([1.5, 2.25], np.float32)}
    got, _ = rule(Updates(1, BEFORE, (one, other)), average, Setting(), NO_STATE)
    np.testing.assert_allclose(got["w"], expected, rtol=1e-6)


def test_results_have_the_dtypes_and_shapes_of_the_average_and_the_rest_is_its_own() -> None:
    average: Weights = {
        "half": np.ones((2, 1), np.float16), "count": np.array(3, np.int64), "w": BEFORE["w"],
    }  # fmt: skip
    got = result(average, {"half": np.array([1.5, 2.0]), "count": np.array([4.0])})
    assert (got["half"].dtype, got["half"].shape) == (np.float16, (2, 1))
    assert (got["count"].dtype, got["count"].shape, int(got["count"])) == (np.int64, (), 4)
    assert got["w"] is average["w"]
    assert list(got) == list(average)


def test_trained_tensors_are_parameters_and_no_counts_or_statistics() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    parameters = ("0.weight", "0.bias", "1.weight", "1.bias")
    assert floating(weights) == (*parameters, "1.running_mean", "1.running_var")
    assert trained(weights, Setting()) == parameters
    assert trained(weights, Setting(model=net)) == parameters
    odd = {**weights, "1.scale": weights["1.bias"]}
    assert trained(odd, Setting(model=net)) == parameters  # a buffer that has another name
    assert trained(odd, Setting()) == (*parameters, "1.scale")
    renamed = {f"module.{name}": value for name, value in weights.items()}
    assert trained(renamed, Setting(model=net)) == tuple(f"module.{name}" for name in parameters)


def test_rules_compute_in_float64() -> None:
    assert in_float64({"w": np.array([1 / 3], np.float32)}, "w").dtype == np.float64
    assert in_float64({"w": np.array([1 + 2**-20], np.float32)}, "w")[0] == 1 + 2**-20


def test_shares_of_a_class_that_nobody_has_are_0() -> None:
    got = class_shares(np.array([[3.0, 0.0], [1.0, 0.0]]))
    assert got.tolist() == [[0.75, 0.0], [0.25, 0.0]]


def test_packed_tensors_come_back_in_their_order_and_shapes() -> None:
    sent = {"w": np.array([[1.0, -2.0]]), "b": np.array(0.5), "v": np.array([3.0, 4.0, 5.0])}
    packed = packed_tensors(sent)
    assert packed == np.array([1.0, -2.0, 0.5, 3.0, 4.0, 5.0], "<f4").tobytes()
    got = said_tensors("r", Update("a", 1, {}, {"fisher": packed}), "fisher", "it", sent)
    assert {name: values.tolist() for name, values in got.items()} == {
        name: values.tolist() for name, values in sent.items()
    }
    assert [values.shape for values in got.values()] == [(1, 2), (), (3,)]
    with pytest.raises(RuleError, match="client a: needs it, 24 bytes of <f4 .*, got 20 bytes"):
        said_tensors("r", Update("a", 1, {}, {"fisher": packed[:-4]}), "fisher", "it", sent)
