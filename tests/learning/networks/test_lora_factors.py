"""LoRA's factors as rules meet them: followed by path importance, merged, and A frozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp.strategy import FedAvg
from torch import nn
from toy_federation import SortedGrid, arrays_of, bits, weights_of

from fedcircuit import Mended
from fedcircuit.aggregation.layers import LivarLayers
from fedcircuit.aggregation.lora import FactorPair, merge_freeze_a
from fedcircuit.clients.app import client_app
from fedcircuit.learning.networks.lora import LoRA, low_rank_factors, with_lora
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.learning.weights import Weights, get_weights
from fedcircuit.samples import Samples

N_CLASSES = 3
FACTORS = [f"{i}.parametrizations.weight.0.lora_{f}" for i in (0, 2) for f in "AB"]


def net(lora: LoRA = LoRA(rank=2)) -> nn.Module:  # noqa: B008
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain = nn.Sequential(
            nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, N_CLASSES)
        )
    return with_lora(plain, lora, seed=4)


def b_only() -> nn.Module:
    return net(LoRA(rank=2, train_a=False))


def samples_of(client: int, n: int = 24) -> Samples:
    generator = torch.Generator().manual_seed(client)
    labels = torch.arange(n) % N_CLASSES
    inputs = 0.5 * torch.randn(n, 5, generator=generator)
    inputs[torch.arange(n), labels] += 2.0 + client
    return Samples(inputs, labels)


def data_of(context: Context) -> Samples:
    client = int(context.node_config["partition-id"])
    return samples_of(client, 24 + 12 * client)


def test_the_factors_are_found_by_type_in_the_order_of_the_state_dict() -> None:
    model = net()
    assert list(low_rank_factors(model)) == FACTORS
    assert low_rank_factors(nn.Linear(2, 2)) == {}
    assert list(low_rank_factors(b_only())) == FACTORS[1::2]


def test_path_importance_follows_the_factors() -> None:
    model, lr = net(), 0.3
    with torch.no_grad():
        for name, factor in low_rank_factors(model).items():
            factor.fill_(0.1 if name.endswith("B") else 0.2)
    data = samples_of(0)
    nn.functional.cross_entropy(model(data.inputs), data.labels).backward()
    factors = low_rank_factors(model)
    expected = {
        n: lr * float(p.grad.square().sum()) for n, p in factors.items() if p.grad is not None
    }
    model.zero_grad()
    training = LocalTraining(batch_size=24, lr=lr, path_importance=True)
    found = dict(train_local(model, data, training, n_classes=N_CLASSES, seed=0).importance)
    assert set(found) == {*FACTORS, "4.weight"}
    for name in FACTORS:
        assert expected[name] > 0
        assert found[name] == pytest.approx(expected[name], rel=1e-4)


def averaged(strategy: object, build: object, rounds: int, **training: object) -> Weights:
    local = LocalTraining(epochs=2, batch_size=6, lr=0.2, **training)  # type: ignore[arg-type]
    app = client_app(build, data_of, local, n_classes=N_CLASSES)  # type: ignore[arg-type]
    start: ArrayRecord = arrays_of(get_weights(build()))  # type: ignore[operator]
    result = strategy.start(SortedGrid(app, 3), start, num_rounds=rounds)  # type: ignore[attr-defined]
    return weights_of(result.arrays)


def test_livar_merges_the_factors_of_our_own_clients() -> None:
    plain = averaged(FedAvg(), net, 2, path_importance=True)
    strategy = Mended(FedAvg(), [LivarLayers()], strict=True)
    mended = averaged(strategy, net, 2, path_importance=True)
    changed = {name for name in FACTORS if not np.array_equal(plain[name], mended[name])}
    assert changed == set(FACTORS)


@pytest.mark.parametrize("mode", ["product", "freeze_A"])
def test_other_modes_are_had_through_our_own_clients(mode: str) -> None:
    build = net if mode == "product" else b_only
    strategy = Mended(FedAvg(), [LivarLayers(mode=mode)], strict=True)  # type: ignore[arg-type]
    mended = averaged(strategy, build, 2, path_importance=True)
    assert all(np.isfinite(values).all() for values in mended.values())


def test_a_frozen_a_is_that_of_the_seed_and_half_of_what_is_sent() -> None:
    whole, half = net(), b_only()
    assert set(half.state_dict()) == set(whole.state_dict()) - set(FACTORS[::2])
    trained = {name for name, p in half.named_parameters() if p.requires_grad}
    assert trained == set(half.state_dict())
    for layer in (0, 2):
        first, second = (m[layer].parametrizations.weight[0] for m in (whole, half))  # type: ignore[index, union-attr]
        assert torch.equal(first.lora_A, second.lora_A)
    data = samples_of(0)
    assert torch.equal(whole(data.inputs), half(data.inputs))  # B is 0


def test_averages_of_b_alone_are_averages_of_the_products() -> None:
    model, shares = b_only(), [0.25, 0.75]
    ends = []
    for client in (0, 1):
        model = b_only()
        training = LocalTraining(epochs=3, batch_size=6, lr=0.2)
        train_local(model, samples_of(client), training, n_classes=N_CLASSES, seed=client)
        ends.append(get_weights(model))
    frozen = model[0].parametrizations.weight[0].lora_A.double().numpy()  # type: ignore[index, union-attr]
    name = FACTORS[1]
    merged = merge_freeze_a([FactorPair(frozen, end[name]) for end in ends], shares)
    assert merged.lost_energy == pytest.approx(0.0, abs=1e-20)
    mean = sum(w * end[name].astype(float) for w, end in zip(shares, ends, strict=True))
    np.testing.assert_allclose(merged.pair.b, mean)
    assert bits({name: ends[0][name]}) != bits({name: ends[1][name]})
