"""What clients say for rules on request, and what SCAFFOLD and FedDyn remember of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import nn
from toy_federation import (
    N_CLASSES,
    arrays_of,
    bits,
    build_net,
    data_of,
    initial_weights,
    samples_of,
    weights_of,
)

from fedcircuit import messages
from fedcircuit.aggregation import Setting, Update, packed_tensors, said_tensors, trained
from fedcircuit.clients import SparseClient, client_app, memory
from fedcircuit.flower import identify_process
from fedcircuit.learning import Weights, get_weights, set_weights
from fedcircuit.learning.training import LocalTraining
from fedcircuit.learning.watching import class_moments, diagonal_fisher

BATCHES = {"epochs": 1, "batch_size": 8}


def app(model: object = build_net, **options: object) -> ClientApp:
    training = LocalTraining(**{**BATCHES, **options})  # type: ignore[arg-type]
    return client_app(model, data_of, training, n_classes=N_CLASSES)  # type: ignore[arg-type]


def node() -> Context:
    return Context(1, 9, {"partition-id": 1}, RecordDict(), {})


def asked(
    clients: ClientApp, context: Context, weights: Weights | None = None, number: int = 1,
    **config: object,
) -> tuple[dict, Weights]:  # fmt: skip
    identify_process()
    sent = RecordDict({"arrays": arrays_of(initial_weights() if weights is None else weights)})
    told = {name.replace("_", "-"): value for name, value in config.items()}
    sent["config"] = ConfigRecord({"server-round": number, **told})  # type: ignore[dict-item]
    content = clients(Message(sent, dst_node_id=9, message_type="train"), context).content
    return dict(content[messages.SIDE_CHANNEL]), weights_of(content["arrays"])


def as_rules_read(said: Mapping[str, object], key: str, weights: Weights) -> dict[str, np.ndarray]:
    """Without a model, as a strategy around any federation reads it."""
    like = {name: weights[name] for name in trained(weights, Setting())}
    return said_tensors("test", Update("1", 1, weights, said), key, "them", like)  # type: ignore[arg-type]


def test_fisher_information_is_that_of_the_weights_that_are_sent() -> None:
    said, weights = asked(app(fisher=True), node())
    model = build_net()
    set_weights(model, weights)
    expected = diagonal_fisher(model, samples_of(1))
    assert bits(as_rules_read(said, messages.FISHER, weights)) == bits(
        {name: values.astype(np.float64) for name, values in expected.items()}
    )


@pytest.mark.parametrize("norm", ["shared", "own"])
def test_moments_are_those_of_the_weights_that_were_received(norm: str) -> None:
    clients, context = app(class_moments=True, batch_norm=norm), node()
    asked(clients, context)
    received = {name: np.asarray(v + 1).astype(v.dtype) for name, v in initial_weights().items()}
    said, _ = asked(clients, context, received, 2)
    model = build_net()
    set_weights(model, received)
    expected = class_moments(model, samples_of(1), n_classes=N_CLASSES)
    assert said[messages.MOMENTS_COUNT] == [10, 9, 9]
    assert said[messages.MOMENTS_SUM] == expected.sums.numpy().tobytes()
    assert said[messages.MOMENTS_OUTER] == expected.outer.numpy().tobytes()


def test_scaffold_says_the_change_of_what_it_remembers_and_obeys_the_server() -> None:
    clients, context = app(scaffold=True), node()
    first, one = asked(clients, context)
    c = np.frombuffer(first[messages.SCAFFOLD_DELTA], "<f4")
    kept = memory.recalled(context, memory.SCAFFOLD)[memory.CONTROL]
    assert kept.tobytes() == c.tobytes()
    second, _ = asked(clients, context, one, 2)
    later = memory.recalled(context, memory.SCAFFOLD)[memory.CONTROL]
    assert later.tobytes() == (c + np.frombuffer(second[messages.SCAFFOLD_DELTA], "<f4")).tobytes()
    # a server that says what the client remembers takes the correction away
    plain, fresh = app(), node()
    asked(plain, fresh)
    again = node()
    memory.keep(again, memory.SCAFFOLD, {memory.CONTROL: c})
    told = {messages.SCAFFOLD_CONTROL: c.tobytes()}
    _, uncorrected = asked(clients, again, one, 2, **told)
    assert bits(uncorrected) == bits(asked(plain, fresh, one, 2)[1])


def test_one_corrected_step_goes_along_the_difference_of_the_control_variates() -> None:
    options = {"epochs": None, "steps": 1, "batch_size": 28, "lr": 0.25}
    names = trained(initial_weights(), Setting())
    server = packed_tensors({name: np.ones(initial_weights()[name].shape) for name in names})
    _, moved = asked(app(scaffold=True, **options), node(), scaffold_control=server)
    _, plain = asked(app(**options), node())
    for name in names:
        np.testing.assert_allclose(moved[name], plain[name] - 0.25, atol=1e-6)


def test_path_importance_is_of_the_loss_s_own_gradient_under_scaffold() -> None:
    """With a correction of 1 everywhere the gradients that follow are other than those stepped."""
    names = trained(initial_weights(), Setting())
    server = packed_tensors({name: np.ones(initial_weights()[name].shape) for name in names})
    options = {"epochs": None, "steps": 1, "batch_size": 28, "lr": 0.25, "path_importance": True}
    said, moved = asked(app(scaffold=True, **options), node(), scaffold_control=server)
    model, data = build_net().train(), samples_of(1)
    nn.functional.cross_entropy(model(data.inputs), data.labels).backward()
    gradient = model[0].weight.grad.numpy()  # type: ignore[index, union-attr]
    step = initial_weights()["0.weight"] - moved["0.weight"]
    assert said[messages.PATH_IMPORTANCE][0] == pytest.approx(
        abs((gradient * step).sum()), rel=1e-3
    )


def test_feddyn_says_its_alpha_and_remembers_minus_alpha_times_all_moves() -> None:
    clients, context = app(feddyn_alpha=0.5), node()
    said, first = asked(clients, context)
    assert said[messages.FEDDYN_ALPHA] == 0.5
    _, second = asked(clients, context, first, 2)
    kept = memory.recalled(context, memory.FEDDYN)
    assert set(kept) == {name for name, _ in build_net().named_parameters()}
    for name, values in kept.items():
        moved = second[name] - initial_weights()[name]
        np.testing.assert_allclose(values, -0.5 * moved, rtol=1e-4, atol=1e-6)


def test_frozen_and_shared_parameters_are_said_as_the_server_counts_them() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, N_CLASSES)
            self.b.weight = self.a.weight
            self.head.bias.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.b(self.a(x).relu()).relu())

    def tied() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Tied()

    said, weights = asked(app(tied, fisher=True, scaffold=True), node(), get_weights(tied()))
    assert list(weights) == ["a.weight", "a.bias", "b.weight", "b.bias", "head.weight", "head.bias"]
    for key in (messages.FISHER, messages.SCAFFOLD_DELTA):
        read = as_rules_read(said, key, weights)
        np.testing.assert_array_equal(read["a.weight"], read["b.weight"])
        assert read["a.weight"].any()
        assert not read["head.bias"].any()


def test_numpy_clients_say_fisher_and_moments_as_bytes() -> None:
    training = LocalTraining(fisher=True, class_moments=True, **BATCHES)  # type: ignore[arg-type]
    client = SparseClient(build_net(), samples_of(1), training, n_classes=N_CLASSES, client=1)
    _, _, metrics = client.fit(list(initial_weights().values()), {"server-round": 1})
    said, _ = asked(app(fisher=True, class_moments=True), node())
    for key in (messages.FISHER, messages.MOMENTS_SUM, messages.MOMENTS_OUTER):
        assert metrics[key] == said[key]
    assert np.frombuffer(metrics[messages.MOMENTS_COUNT], "<f8").tolist() == [10, 9, 9]
    assert set(metrics) - {"train_loss", "train_accuracy"} <= messages.SIDE_KEYS


@pytest.mark.parametrize("options", [{"scaffold": True}, {"feddyn_alpha": 0.1}])
def test_a_numpy_client_has_no_memory_for_drift(options: dict[str, object]) -> None:
    training = LocalTraining(**options)  # type: ignore[arg-type]
    client = SparseClient(build_net(), samples_of(1), training, n_classes=N_CLASSES)
    with pytest.raises(ValueError, match=r"use fedcircuit.clients.client_app"):
        client.fit(list(initial_weights().values()), {"server-round": 1})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scaffold": True, "optimizer": "adam"}, "scaffold corrects the gradients of sgd"),
        ({"scaffold": True, "feddyn_alpha": 0.1}, "both correct the same drift"),
        ({"feddyn_alpha": 0.1, "proximal_mu": 0.1}, "leave one of them out"),
        ({"feddyn_alpha": 0.1, "batch_norm": "own"}, "needs every parameter averaged"),
        ({"feddyn_alpha": -0.1}, r"feddyn_alpha must be >= 0, got -0\.1"),
        ({"feddyn_alpha": float("nan")}, "feddyn_alpha must be >= 0, got nan"),
        ({"feddyn_alpha": float("inf")}, "feddyn_alpha must be a finite number >= 0, got inf"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        LocalTraining(**options)  # type: ignore[arg-type]


def test_a_control_variate_of_another_size_is_refused_before_training() -> None:
    clients, context = app(scaffold=True), node()
    with pytest.raises(
        ValueError, match=r"the server's control variate must have \d+ bytes.*got 4"
    ):
        asked(clients, context, scaffold_control=b"1234")
    memory.keep(context, memory.SCAFFOLD, {memory.CONTROL: np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="the client's kept control variate must have"):
        asked(clients, context)
    memory.keep(context, memory.FEDDYN, {"0.weight": np.zeros(3, np.float32)})
    with pytest.raises(
        ValueError, match=r"kept gradient of FedDyn has '0\.weight' of shape \(3,\)"
    ):
        asked(app(feddyn_alpha=0.1), context)


def test_feddyn_needs_all_parameters_averaged_by_lips_too() -> None:
    config = {messages.LIPS_LOCAL: ["1.weight"], messages.LIPS_DENSITY: 1.0}
    with pytest.raises(ValueError, match=r"lips-local keeps \['1\.weight'\] with the clients"):
        asked(app(feddyn_alpha=0.1), node(), **config)
