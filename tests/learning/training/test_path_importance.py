"""Path importance: |<gradient, step>| by hand, over rounds, and of the right gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedcircuit.learning import get_weights
from fedcircuit.learning.networks import WeightSparsity, build_model
from fedcircuit.learning.training import Continuation, LocalTraining, train_local
from fedcircuit.learning.watching.path_importance import PathImportance
from fedcircuit.samples import Samples


def mlp(seed: int = 0) -> nn.Module:
    return build_model("mlp", (4,), 3, seed=seed, widths=(6,))


def data(n: int = 24) -> Samples:
    random = torch.Generator().manual_seed(1)
    return Samples(torch.randn(n, 4, generator=random), torch.arange(n) % 3)


def trained(model: nn.Module, before: dict[str, float] | None = None, **options: object) -> dict:
    training = LocalTraining(path_importance=True, **options)
    start = Continuation(importance={} if before is None else before)
    return dict(train_local(model, data(), training, n_classes=3, seed=0, start=start).importance)


def test_a_step_by_hand_counts_the_size_of_the_product_and_only_weights_with_a_gradient() -> None:
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0]]))
    path = PathImportance(model, {"0.weight": 10.0})
    model[0].weight.grad = torch.tensor([[3.0, -1.0]])

    def step() -> None:
        with torch.no_grad():
            model[0].weight.sub_(torch.tensor([[-2.0, 1.0]]))  # before - after is (-2, 1)

    path.take(step)
    assert path.sums() == {"0.weight": 10.0 + abs(3 * -2 + -1 * 1), "1.weight": 0.0}
    path.take(step)
    assert path.sums()["0.weight"] == 24.0


def test_one_step_of_sgd_is_lr_times_the_squared_gradient() -> None:
    model, lr = mlp(), 0.3
    nn.functional.cross_entropy(model(data().inputs), data().labels).backward()
    expected = {f"{i}.weight": lr * float(model[i].weight.grad.square().sum()) for i in (1, 3)}
    assert trained(mlp(), batch_size=24, lr=lr) == pytest.approx(expected, rel=1e-4)


def test_weight_decay_and_momentum_change_the_step_and_not_the_gradient() -> None:
    model, lr, decay = mlp(), 0.3, 0.2
    nn.functional.cross_entropy(model(data().inputs), data().labels).backward()
    weight, gradient = model[1].weight.detach(), model[1].weight.grad
    step = lr * (gradient + decay * weight)
    expected = abs(float((gradient * step).sum()))
    found = trained(mlp(), batch_size=24, lr=lr, weight_decay=decay, momentum=0.9)
    assert found["1.weight"] == pytest.approx(expected, rel=1e-4)


def test_rounds_add_up_to_one_long_round() -> None:
    model, sums = mlp(), None
    for first in (0, 2):
        training = LocalTraining(steps=2, batch_size=8, lr=0.2, path_importance=True)
        start = Continuation(first=first, batch_seed=5, importance=sums or {})
        sums = train_local(model, data(), training, n_classes=3, seed=0, start=start).importance
    whole = LocalTraining(steps=4, batch_size=8, lr=0.2, path_importance=True)
    start = Continuation(batch_seed=5)
    once = train_local(mlp(), data(), whole, n_classes=3, seed=0, start=start).importance
    assert sums == pytest.approx(once, rel=1e-6)


def test_a_frozen_layer_is_not_followed() -> None:
    model = mlp()
    model[1].weight.requires_grad_(False)
    assert list(trained(model)) == ["3.weight"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_following_does_not_change_what_is_trained(optimizer: str) -> None:
    plain, followed = mlp(), mlp()
    options = {"epochs": 2, "batch_size": 5, "optimizer": optimizer, "lr": 0.05}
    sparsity = WeightSparsity(0.5)
    off = LocalTraining(**options, sparsity=sparsity)
    assert train_local(plain, data(), off, n_classes=3, seed=0).importance == {}
    sums = trained(followed, **options, sparsity=sparsity)
    assert all(np.isfinite(value) and value > 0 for value in sums.values())
    for name, values in get_weights(plain).items():
        assert values.tobytes() == get_weights(followed)[name].tobytes()


def test_sums_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has 'x.weight', the model's layers are \['1.weight'"):
        trained(mlp(), {"x.weight": 1.0})
