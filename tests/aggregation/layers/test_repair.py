"""REPAIR on convolutions and behind batch norm, unit by unit and by another route."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rule_rounds import sequential_cnn
from torch import Tensor, nn

from fedcircuit.aggregation import RuleError
from fedcircuit.aggregation.layers.repair import repaired
from fedcircuit.learning import Weights, get_weights, set_weights

SHARES = np.array([0.75, 0.25])
INPUTS = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def drawn(model: nn.Module, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return {
        name: v if v.dtype.kind != "f" else (rng.normal(size=v.shape) ** (2 if "var" in name else 1)
                                             + ("var" in name)).astype(v.dtype)
        for name, v in get_weights(model).items()
    }  # fmt: skip


def plain_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.BatchNorm2d))
    }


def seen(model: nn.Module, weights: Weights) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs and outputs of every layer, float64, by hooks."""
    set_weights(model, weights)
    model = model.double().eval()
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in plain_layers(model).items():
        module.register_forward_hook(
            lambda _, came, gave, name=name: found.update({name: (came[0], gave)})
        )
    with torch.no_grad():
        model(INPUTS.double())
    return found


def by_unit(values: Tensor) -> Tensor:
    """``[units, ...]`` of ``[n, units]`` or ``[n, channels, height, width]``."""
    return values.transpose(0, 1).flatten(1)


def merged_and_mended() -> tuple[Weights, list[Weights], Weights]:
    model = sequential_cnn()
    clients = [drawn(model, 1), drawn(model, 2)]
    merged = {
        name: sum(p * np.asarray(w[name], np.float64) for p, w in zip(SHARES, clients, strict=True))
        .astype(v.dtype)
        for name, v in clients[0].items()
    }  # fmt: skip
    got = repaired("test", model, merged, (clients, SHARES), INPUTS)
    return merged, clients, got


def test_every_unit_without_batch_norm_has_the_clients_mean_and_spread() -> None:
    merged, clients, got = merged_and_mended()
    mended = seen(sequential_cnn(), got)
    theirs = [seen(sequential_cnn(), own) for own in clients]
    before = seen(sequential_cnn(), merged)
    plain = [name for name in mended if name not in ("0.0", "0.1")][:-1]
    assert plain == ["2", "5"]  # a convolution and a linear layer
    for name in plain:
        units = by_unit(mended[name][1])
        for look in (lambda x: x.mean(1), lambda x: x.std(1, correction=0)):
            goal = sum(
                p * look(by_unit(one[name][1])) for p, one in zip(SHARES, theirs, strict=True)
            )
            np.testing.assert_allclose(look(units), goal, rtol=1e-4, atol=1e-4)
        assert not np.allclose(by_unit(before[name][1]), units, rtol=0.05)


def test_batch_norm_has_the_statistics_of_what_reaches_it() -> None:
    merged, _, got = merged_and_mended()
    came = by_unit(seen(sequential_cnn(), got)["0.1"][0])
    np.testing.assert_allclose(got["0.1.running_mean"], came.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["0.1.running_var"], came.var(1), rtol=1e-4)
    for name in ("0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "7.weight", "7.bias"):
        assert got[name].tobytes() == merged[name].tobytes(), name  # nor the head
    assert got["0.1.num_batches_tracked"].tobytes() == merged["0.1.num_batches_tracked"].tobytes()


def test_a_unit_that_never_varies_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    clients = [{n: (v + k).astype(v.dtype) for n, v in get_weights(model).items()} for k in (1, 2)]
    merged = {n: v.copy() for n, v in clients[0].items()}
    merged["0.weight"][0] = 0.0
    merged["0.bias"][0] = 0.5
    inputs = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    got = repaired("test", model, merged, (clients, SHARES), inputs)
    assert got["0.weight"][0].tolist() == [0.0, 0.0]
    assert got["0.bias"][0] == 0.5
    assert not np.allclose(got["0.weight"][1], merged["0.weight"][1])


def test_without_a_bias_the_spread_alone_is_set_right() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    clients = [{n: (k * v).astype(v.dtype) for n, v in get_weights(model).items()} for k in (1, 3)]
    inputs = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    got = repaired("test", model, clients[0], (clients, SHARES), inputs)
    np.testing.assert_allclose(got["0.weight"], 1.5 * clients[0]["0.weight"], rtol=1e-5)


def test_one_input_gives_batch_norm_a_mean_and_leaves_its_variance() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1))
    own = get_weights(model)
    inputs = torch.tensor([[1.0, -2.0]])
    got = repaired("test", model, own, ([own], np.ones(1)), inputs)
    with torch.no_grad():
        np.testing.assert_allclose(got["1.running_mean"], model[0](inputs)[0], rtol=1e-5)
    assert got["1.running_var"].tolist() == [1.0, 1.0]


def test_batch_norm_that_keeps_no_statistics_is_left_alone() -> None:
    norm = nn.BatchNorm1d(2, track_running_stats=False)
    model = nn.Sequential(nn.Linear(2, 2), norm, nn.ReLU(), nn.Linear(2, 1))
    own = get_weights(model)
    got = repaired("test", model, own, ([own], np.ones(1)), torch.eye(2))
    assert all(got[name].tobytes() == values.tobytes() for name, values in own.items())


def test_weights_of_another_model_are_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    other = {"x": np.zeros(2, np.float32)}
    with pytest.raises(RuleError, match="needs the model whose weights are exchanged"):
        repaired("test", model, other, ([other], np.ones(1)), torch.eye(2))
