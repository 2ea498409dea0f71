"""SCAFFOLD, FedDyn and FedNova with our clients, against the papers' algorithms in plain NumPy.

Three clients of equal size train softmax regression for three rounds, by full batches, so that the
order of samples does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray
from torch import nn
from toy_federation import N_CLASSES, N_INPUTS, SortedGrid, arrays_of, bits, weights_of

from fedcircuit.aggregation.drift import FedDyn, FedNova, Scaffold
from fedcircuit.clients import client_app
from fedcircuit.learning import get_weights
from fedcircuit.learning.training import LocalTraining, train_local
from fedcircuit.samples import Samples
from fedcircuit.strategies import Mended

Floats = NDArray[np.float64]
N, SIZE, ROUNDS, STEPS, LR, ALPHA = 3, 20, 3, 4, 0.5, 0.3


def regression() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Linear(N_INPUTS, N_CLASSES)


def skewed(client: int, size: int = SIZE) -> Samples:
    """Mostly of one class, so that clients pull apart."""
    generator = torch.Generator().manual_seed(30 + client)
    labels = torch.where(torch.arange(size) % 4 == 0, torch.arange(size) % N_CLASSES, client)
    inputs = 1.5 * torch.eye(N_CLASSES, N_INPUTS)[labels]
    return Samples(inputs + torch.randn(size, N_INPUTS, generator=generator), labels)


def data_of(context: Context) -> Samples:
    return skewed(int(context.node_config["partition-id"]))


def app(**options: object) -> ClientApp:
    training = LocalTraining(epochs=STEPS, batch_size=SIZE, lr=LR, **options)  # type: ignore[arg-type]
    return client_app(regression, data_of, training, n_classes=N_CLASSES)


def trained(clients: ClientApp, rules: Sequence[object]) -> dict[str, NDArray[np.generic]]:
    strategy = Mended(FedAvg(), rules, strict=True)  # type: ignore[arg-type]
    start = arrays_of(get_weights(regression()))
    result = strategy.start(SortedGrid(clients, N), start, num_rounds=ROUNDS)
    return weights_of(result.arrays)


class Plain:
    """A client's loss in float64: weights are one vector ``[classes * (inputs + 1)]``."""

    def __init__(self, client: int) -> None:
        data = skewed(client)
        self.x = np.c_[data.inputs.double().numpy(), np.ones(SIZE)]
        self.y = np.eye(N_CLASSES)[data.labels.numpy()]

    def gradient(self, w: Floats) -> Floats:
        logits = self.x @ w.reshape(N_CLASSES, -1).T
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return ((p - self.y).T @ self.x / SIZE).ravel()


def vector(weights: Mapping[str, NDArray[np.generic]]) -> Floats:
    return np.c_[weights["weight"].astype(np.float64), weights["bias"].astype(np.float64)].ravel()


def test_scaffold_is_that_of_the_paper() -> None:
    clients = [Plain(k) for k in range(N)]
    w = vector(get_weights(regression()))
    server, own = np.zeros_like(w), [np.zeros_like(w) for _ in clients]
    for _ in range(ROUNDS):  # algorithm 1 with option II, eta_g = 1
        moves, changes = [], []
        for k, client in enumerate(clients):
            y = w.copy()
            for _ in range(STEPS):
                y -= LR * (client.gradient(y) - own[k] + server)
            new = own[k] - server + (w - y) / (STEPS * LR)
            moves.append(y - w)
            changes.append(new - own[k])
            own[k] = new
        w = w + np.mean(moves, axis=0)
        server = server + np.mean(changes, axis=0)
    got = vector(trained(app(scaffold=True), [Scaffold()]))
    np.testing.assert_allclose(got, w, rtol=0, atol=1e-5)
    plain = vector(trained(app(), []))
    assert np.abs(got - plain).max() > 0.01  # and it is not FedAvg


def test_feddyn_is_that_of_the_paper() -> None:
    clients = [Plain(k) for k in range(N)]
    w = vector(get_weights(regression()))
    h, g = np.zeros_like(w), [np.zeros_like(w) for _ in clients]
    for _ in range(ROUNDS):
        ends = []
        for k, client in enumerate(clients):
            y = w.copy()
            for _ in range(STEPS):
                y -= LR * (client.gradient(y) - g[k] + ALPHA * (y - w))
            g[k] = g[k] - ALPHA * (y - w)
            ends.append(y)
        h = h - ALPHA / N * np.sum([y - w for y in ends], axis=0)
        w = np.mean(ends, axis=0) - h / ALPHA
    got = vector(trained(app(feddyn_alpha=ALPHA), [FedDyn(alpha=ALPHA)]))
    np.testing.assert_allclose(got, w, rtol=0, atol=1e-5)
    assert np.abs(got - vector(trained(app(), []))).max() > 0.01


def test_fednova_is_fedavg_where_all_take_as_many_steps() -> None:
    assert bits(trained(app(), [FedNova()])) == bits(trained(app(), []))


def test_fednova_is_that_of_the_paper_where_clients_take_other_numbers_of_steps() -> None:
    sizes, batch = (8, 16, 40), 8

    def data(context: Context) -> Samples:
        client = int(context.node_config["partition-id"])
        return skewed(client, sizes[client])

    training = LocalTraining(epochs=1, batch_size=batch, lr=LR, momentum=0.5)
    clients = client_app(regression, data, training, n_classes=N_CLASSES)
    start = get_weights(regression())
    seen = []

    class Keeping(SortedGrid):
        def send_and_receive(self, messages, *, timeout=None):  # type: ignore[no-untyped-def]
            replies = super().send_and_receive(messages, timeout=timeout)
            seen.extend(vector(weights_of(r.content["arrays"])) for r in replies)
            return replies

    strategy = Mended(FedAvg(fraction_evaluate=0.0), [FedNova(momentum=0.5)], strict=True)
    result = strategy.start(Keeping(clients, N), arrays_of(start), num_rounds=1)
    w, shares = vector(start), np.array(sizes) / sum(sizes)
    # tau = 1, 2, 5; the i-th of tau gradients counts (1 - m^(tau - i)) / (1 - m), i from 0
    lengths = np.array([sum((1 - 0.5 ** (tau - i)) / 0.5 for i in range(tau)) for tau in (1, 2, 5)])
    moved = np.stack([end - w for end in seen[:N]])
    expected = w + (shares @ lengths) * (shares / lengths) @ moved
    np.testing.assert_allclose(vector(weights_of(result.arrays)), expected, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_client_s_control_variate_is_the_mean_of_its_gradients(momentum: float) -> None:
    """With momentum the paper's (w_t - w_k) / (K lr) would be several times as long."""
    client = Plain(1)
    w, velocity, gradients = vector(get_weights(regression())), 0.0, []
    for _ in range(STEPS):
        gradients.append(client.gradient(w))
        velocity = momentum * velocity + gradients[-1]
        w = w - LR * velocity
    training = LocalTraining(epochs=STEPS, batch_size=SIZE, lr=LR, momentum=momentum, scaffold=True)
    result = train_local(regression(), skewed(1), training, n_classes=N_CLASSES, seed=0)
    np.testing.assert_allclose(vector(result.mean_gradient), np.mean(gradients, axis=0), atol=1e-6)
