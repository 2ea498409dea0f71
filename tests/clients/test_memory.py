"""Clients that go on with their optimiser, in the memory that Flower gives a node."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import nn
from toy_federation import N_CLASSES, N_INPUTS, arrays_of, bits, samples_of, weights_of

from fedcircuit.clients.app import client_app
from fedcircuit.clients.memory import OPTIMIZER, keep, recalled
from fedcircuit.clients.sparse_client import SparseClient
from fedcircuit.flower import identify_process
from fedcircuit.learning.seeds import derived_seed
from fedcircuit.learning.training.local_training import Continuation, LocalTraining, train_local
from fedcircuit.learning.weights import Weights, get_weights

KEPT = LocalTraining(steps=3, batch_size=8, optimizer="adam", lr=0.05, optimizer_state="kept")


def build() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(N_INPUTS, 5), nn.Tanh(), nn.Linear(5, N_CLASSES))


def app(training: LocalTraining = KEPT) -> ClientApp:
    return client_app(build, lambda context: samples_of(1), training, n_classes=N_CLASSES, seed=2)


def node() -> Context:
    return Context(1, 9, {"partition-id": 1}, RecordDict(), {})


def trained(own: ClientApp, context: Context, start: Weights, number: int) -> Weights:
    identify_process()
    content = RecordDict({"arrays": arrays_of(start)})
    content["config"] = ConfigRecord({"server-round": number})
    reply = own(Message(content, dst_node_id=9, message_type="train"), context)
    assert not reply.has_error()
    return weights_of(reply.content["arrays"])


def test_a_lone_client_with_a_kept_optimiser_trains_as_if_there_were_no_rounds() -> None:
    context, weights = node(), get_weights(build())
    for number in range(1, 8):
        weights = trained(app(), context, weights, number)

    model = build()
    whole = LocalTraining(steps=21, batch_size=8, optimizer="adam", lr=0.05)
    start = Continuation(batch_seed=derived_seed(2, "batches", 1))
    train_local(model, samples_of(1), whole, n_classes=N_CLASSES, seed=0, start=start)
    assert bits(weights) == bits(get_weights(model))


def test_the_rounds_take_the_mini_batches_one_after_another() -> None:
    # two rounds of three steps and one of six are the same for an optimiser that keeps nothing
    training = LocalTraining(steps=3, batch_size=8, lr=0.1)
    context, weights = node(), get_weights(build())
    for number in (1, 2):
        weights = trained(app(training), context, weights, number)
    once = trained(
        app(LocalTraining(steps=6, batch_size=8, lr=0.1)), node(), get_weights(build()), 1
    )
    assert bits(weights) == bits(once)


def test_a_client_without_memory_starts_fresh_and_a_fresh_one_remembers_nothing() -> None:
    start, context = get_weights(build()), node()
    fresh = LocalTraining(steps=3, batch_size=8, optimizer="adam", lr=0.05)
    assert bits(trained(app(), context, start, 4)) == bits(trained(app(fresh), node(), start, 4))
    assert list(context.state.array_records) == [OPTIMIZER]
    assert bits(trained(app(), context, start, 5)) != bits(trained(app(), node(), start, 5))

    empty = node()
    trained(app(fresh), empty, start, 4)
    assert list(empty.state) == []


def test_arrays_come_back_as_they_were_kept_numbers_too() -> None:
    context = node()
    arrays = {
        "a/step": np.array(7.0, dtype=np.float32),
        "a/exp_avg": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "n": np.array([], dtype=np.int64),
    }
    keep(context, "some", arrays)
    back = recalled(context, "some")
    assert list(back) == list(arrays)
    for name, values in arrays.items():
        assert back[name].dtype == values.dtype
        assert back[name].shape == values.shape
        assert np.array_equal(back[name], values)
    assert {array.stype for array in context.state["some"].values()} == {"numpy.ndarray"}
    assert recalled(context, "other") == {}
    keep(context, "some", {})
    assert recalled(context, "some") == {}


def test_a_numpy_client_cannot_keep_and_says_what_can() -> None:
    client = SparseClient(build(), samples_of(1), KEPT, n_classes=N_CLASSES)
    with pytest.raises(ValueError, match="use fedcircuit.clients.client_app, or .*'fresh'"):
        client.fit(list(get_weights(build()).values()), {"server-round": 1})


def test_rounds_of_steps_count_from_one() -> None:
    client = SparseClient(build(), samples_of(1), KEPT, n_classes=N_CLASSES)
    with pytest.raises(ValueError, match="count from 1, got round 0"):
        client.train(get_weights(build()), {"server-round": 0})
