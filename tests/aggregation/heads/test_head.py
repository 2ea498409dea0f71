"""Finding the head of a model or of bare weights, and making its rows of clients' rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rule_helpers import round_of_clients
from torch import Tensor, nn

from fedcircuit.aggregation import RuleError, Setting
from fedcircuit.aggregation.heads import Head, class_counts, find_head, with_rows
from fedcircuit.learning import get_weights
from fedcircuit.learning.networks import build_model
from fedcircuit.samples import Samples


class Backwards(nn.Module):
    """Lists its head first and runs it last; both layers have as many outputs as classes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)
        self.body = nn.Linear(2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))


PROBE = Samples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))


def test_the_head_is_the_last_linear_layer_that_runs() -> None:
    model = Backwards()
    weights = get_weights(model)
    assert find_head(weights, Setting(3, model, PROBE), "r") == Head("head.weight", "head.bias", 3)
    # without a probe the order in which the model lists its layers is all there is
    assert find_head(weights, Setting(3, model), "r") == Head("body.weight", None, 3)


def test_the_head_is_found_in_bare_weights_behind_a_tensor_of_another_prefix() -> None:
    weights = get_weights(build_model("mlp", (5,), 3, seed=0, widths=(3,)))
    assert find_head(weights, Setting(3), "r") == Head("3.weight", "3.bias", 3)
    del weights["3.bias"]
    assert find_head(weights, Setting(3), "r") == Head("3.weight", None, 3)


def test_a_head_behind_a_wrapper_has_the_name_under_which_it_is_exchanged() -> None:
    model = build_model("mlp", (5,), 3, seed=0, widths=(4,))
    wrapped = {f"module.{name}": values for name, values in get_weights(model).items()}
    assert find_head(wrapped, Setting(3, model), "r").names == ("module.3.weight", "module.3.bias")


def test_a_model_that_is_a_linear_layer_is_its_own_head() -> None:
    model = nn.Linear(2, 3)
    assert find_head(get_weights(model), Setting(3, model), "r").names == ("weight", "bias")


@pytest.mark.parametrize("with_model", [True, False])
def test_weights_without_a_head_are_refused_with_what_is_needed(with_model: bool) -> None:
    model = build_model("mlp", (5,), 3, seed=0, widths=(4,))
    setting = Setting(7, model if with_model else None)
    with pytest.raises(RuleError, match="rule 'r' cannot be used: it needs a last linear layer"):
        find_head(get_weights(model), setting, "r")


def test_an_unknown_number_of_classes_and_other_weights_are_refused() -> None:
    model = build_model("mlp", (5,), 3, seed=0, widths=(4,))
    with pytest.raises(RuleError, match="number of classes"):
        find_head(get_weights(model), Setting(model=model), "r")
    with pytest.raises(RuleError, match=r"the head \['3.weight', '3.bias'\] of the model"):
        find_head({"x": np.zeros((3, 2), np.float32)}, Setting(3, model), "r")


HEAD = Head("w", "b", 2)
BEFORE = {"w": np.array([[9.0], [8.0]], np.float32), "b": np.array([7.0, 0.1], np.float32)}


def test_rows_are_the_shares_of_the_clients_rows_and_a_class_without_shares_is_kept() -> None:
    first = {"w": np.array([[1.0], [np.nan]], np.float32), "b": np.array([2.0, 5], np.float32)}
    second = {"w": np.array([[5.0], [6.0]], np.float32), "b": np.array([6.0, 5], np.float32)}
    updates = round_of_clients(BEFORE, [first, second])
    shares = np.array([[0.25, 0.0], [0.75, 0.0]])
    average = {"w": np.zeros((2, 1), np.float32), "b": np.zeros(2, np.float32)}
    made = with_rows(updates, average, HEAD, shares, updates.before)
    assert made["w"].tolist() == [[4.0], [8.0]]
    assert made["b"].tobytes() == np.array([5.0, 0.1], np.float32).tobytes()
    assert made["w"].dtype == np.float32
    assert not average["w"].any()
    shares[1, 1] = 1.0  # the first client's NaN has no share
    assert with_rows(updates, average, HEAD, shares, updates.before)["w"].tolist() == [[4], [6]]


def test_shares_of_another_shape_are_refused() -> None:
    updates = round_of_clients(BEFORE, [BEFORE])
    with pytest.raises(ValueError, match=r"\(1, 2\), got \(2, 1\)"):
        with_rows(updates, BEFORE, HEAD, np.ones((2, 1)), BEFORE)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "client b: it needs 'class-counts' in the side record"),
        ({"class-counts": [1]}, "client b: 'class-counts' must be a list of 2 numbers"),
        ({"class-counts": "12"}, "client b: 'class-counts' must be a list of 2 numbers"),
        ({"class-counts": [1, -1]}, "client b: 'class-counts' must be numbers >= 0"),
        ({"class-counts": [1, np.nan]}, "client b: 'class-counts' must be numbers >= 0"),
        ({"class-counts": [1, np.inf]}, "client b: 'class-counts' must be numbers >= 0"),
    ],
)
def test_what_a_client_did_not_say_is_named(said: dict, words: str) -> None:
    updates = round_of_clients(BEFORE, [BEFORE] * 2, [{"class-counts": [1, 2]}, said])
    with pytest.raises(RuleError, match=words):
        class_counts(updates, 2, "r")


def test_class_counts_are_those_said() -> None:
    said = [{"class-counts": [1, 2]}, {"class-counts": [0, 5]}]
    updates = round_of_clients(BEFORE, [BEFORE] * 2, said)
    assert class_counts(updates, 2, "r").tolist() == [[1, 2], [0, 5]]
