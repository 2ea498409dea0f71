"""Exchanged names and a model's: what fits, what is filled, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedcircuit.learning.networks.exchanged_names import WRAPPERS, NameFitError, fitted
from fedcircuit.learning.weights import Weights, get_weights, set_weights


def net() -> nn.Sequential:
    """A body with a name, batch norm with buffers, and a head."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    return nn.Sequential(body, nn.ReLU(), nn.Linear(3, 2))


class Holder(nn.Module):
    """A network inside another, as Lightning's modules hold one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Tied(nn.Module):
    """Two names for one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


def same(left: Weights, right: Weights) -> bool:
    return list(left) == list(right) and all(np.array_equal(left[n], right[n]) for n in left)


def part_wrapped(model: nn.Sequential) -> nn.Module:
    model[0] = nn.DataParallel(model[0])
    return model


EXCHANGED: dict[str, Callable[[nn.Sequential], nn.Module]] = {
    "plain": lambda model: model,
    "DataParallel": nn.DataParallel,
    "twice": lambda model: nn.DataParallel(Holder(model)),
    "a part of it": part_wrapped,
    "held": Holder,
}


@pytest.mark.parametrize("name", EXCHANGED)
def test_weights_of_a_wrapped_network_are_those_of_the_network(name: str) -> None:
    own = get_weights(net())
    exchanged = get_weights(EXCHANGED[name](net()))
    fit = fitted(exchanged, net())
    assert same(fit.of_model(exchanged), own)
    assert fit.renamed == (name != "plain")
    assert fit.filled == {}


@pytest.mark.parametrize("name", ["held", "twice"])
def test_weights_of_the_network_alone_fit_one_that_holds_it(name: str) -> None:
    holder = EXCHANGED[name](net())
    assert same(
        fitted(get_weights(net()), holder).of_model(get_weights(net())), get_weights(holder)
    )


@given(
    st.lists(st.sampled_from(sorted(WRAPPERS)), max_size=3), st.sampled_from(["", "net.", "a.b."])
)
def test_any_prefix_of_wrappers_and_holders_is_read(wrappers: list[str], held: str) -> None:
    own = get_weights(net())
    front = "".join(f"{wrapper}." for wrapper in wrappers) + held
    exchanged = {front + name: values for name, values in own.items()}
    assert same(fitted(exchanged, net()).of_model(exchanged), own)


def test_buffers_that_are_not_exchanged_are_the_models() -> None:
    model = net()
    model[0][1].running_mean.fill_(2.5)
    parameters = {name: value.detach().numpy() for name, value in net().named_parameters()}
    fit = fitted({f"module.{name}": values for name, values in parameters.items()}, model)
    assert list(fit.filled) == ["0.1.running_mean", "0.1.running_var", "0.1.num_batches_tracked"]
    whole = fit.of_model({f"module.{name}": values for name, values in parameters.items()})
    np.testing.assert_array_equal(whole["0.1.running_mean"], [2.5] * 3)
    set_weights(net(), whole)  # everything is there


def test_a_tied_weight_may_be_exchanged_once() -> None:
    weight = np.arange(15, dtype=np.float32).reshape(5, 3)
    whole = fitted({"embedding.weight": weight}, Tied()).of_model({"embedding.weight": weight})
    assert same(whole, {"embedding.weight": weight, "head.weight": weight})


@pytest.mark.parametrize(
    ("change", "missing", "unexpected", "shapes"),
    [
        (lambda w: w.pop("2.bias"), ["2.bias"], [], 0),
        (lambda w: w.update(more=w["2.bias"]), [], ["more"], 0),
        (lambda w: w.update({"2.bias": np.zeros(7)}), [], [], 1),
        (lambda w: w.update({"two.bias": w.pop("2.bias")}), ["2.bias"], ["two.bias"], 0),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[dict[str, object]], object],
    missing: list[str],
    unexpected: list[str],
    shapes: int,
) -> None:
    weights = dict(get_weights(net()))
    change(weights)  # type: ignore[arg-type]
    with pytest.raises(NameFitError, match="model and weights do not fit") as error:
        fitted(weights, net())
    assert (error.value.missing, error.value.unexpected) == (missing, unexpected)
    assert len(error.value.shapes) == shapes


def test_the_difference_is_told_for_the_nearest_reading() -> None:
    weights = {f"module.{name}": values for name, values in get_weights(net()).items()}
    del weights["module.2.bias"]
    with pytest.raises(NameFitError) as error:
        fitted(weights, net())
    assert (error.value.missing, error.value.unexpected) == (["2.bias"], [])


def test_a_prefix_that_some_names_lack_is_none() -> None:
    weights = dict(get_weights(Holder(net())))
    weights["2.bias"] = weights.pop("model.2.bias")
    with pytest.raises(NameFitError):
        fitted(weights, net())


def test_a_tensor_that_is_kept_back_later_is_named() -> None:
    own = get_weights(net())
    fit = fitted(own, net())
    with pytest.raises(NameFitError, match=r"missing \['2.bias'\]"):
        fit.of_model({name: values for name, values in own.items() if name != "2.bias"})
