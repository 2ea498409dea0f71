"""What clients say for LIVAR: variances of their features, and path importance over rounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from toy_federation import (
    N_CLASSES,
    arrays_of,
    build_net,
    initial_weights,
    samples_of,
    weights_of,
)

from fedcircuit import messages
from fedcircuit.clients import SparseClient, client_app
from fedcircuit.clients.memory import PATH_IMPORTANCE, recalled
from fedcircuit.flower import identify_process
from fedcircuit.learning import derived_seed
from fedcircuit.learning.training import Continuation, FeatureVariance, LocalTraining, train_local
from fedcircuit.samples import Samples


def two_classes() -> Samples:
    """No sample of class 2, and one of class 1."""
    all_of = samples_of(1)
    keep = all_of.labels == 0
    keep[int((all_of.labels == 1).nonzero()[0])] = True
    return all_of.take(keep)


def app(training: LocalTraining, samples: Samples | None = None) -> ClientApp:
    data = samples_of(1) if samples is None else samples
    return client_app(build_net, lambda context: data, training, n_classes=N_CLASSES, seed=2)


def node() -> Context:
    return Context(1, 9, {"partition-id": 1}, RecordDict(), {})


def said_by(
    own: ClientApp, context: Context, number: int, arrays: ArrayRecord | None = None
) -> tuple[dict, ArrayRecord]:
    identify_process()
    sent = arrays_of(initial_weights()) if arrays is None else arrays
    content = RecordDict({"arrays": sent, "config": ConfigRecord({"server-round": number})})
    reply = own(Message(content, dst_node_id=9, message_type="train"), context)
    return dict(reply.content[messages.SIDE_CHANNEL]), reply.content["arrays"]


def plain(training: LocalTraining, number: int, **start: object) -> object:
    seed = derived_seed(2, number, 1)
    begin = Continuation(**start)
    model = build_net()
    return train_local(model, samples_of(1), training, n_classes=N_CLASSES, seed=seed, start=begin)


def test_nothing_more_is_said_where_nothing_is_asked_for() -> None:
    said, _ = said_by(app(LocalTraining(batch_size=8)), node(), 1)
    assert set(said) == {"partition-id", "version", "class-counts", "local-steps"}


@pytest.mark.parametrize("source", ["adapted", "frozen"])
def test_variances_are_those_of_training_with_nan_where_unknown(source: str) -> None:
    training = LocalTraining(batch_size=8, feature_variance=FeatureVariance(source))
    said, _ = said_by(app(training), node(), 3)
    expected = plain(training, 3, frozen=build_net()).class_variances
    assert said["class-variances"] == list(expected)
    assert said["class-counts"] == [10, 9, 9]
    said, _ = said_by(app(training, two_classes()), node(), 3)
    assert [math.isnan(value) for value in said["class-variances"]] == [False, True, True]


def test_frozen_features_are_the_same_whatever_weights_arrive() -> None:
    training = LocalTraining(batch_size=8, feature_variance=FeatureVariance("frozen"))
    other = {name: values + 1 for name, values in initial_weights().items()}
    first, _ = said_by(app(training), node(), 1)
    second, _ = said_by(app(training), node(), 2, arrays_of(other))
    assert first["class-variances"] == second["class-variances"]


def test_path_importance_goes_on_over_rounds_in_the_nodes_memory() -> None:
    training = LocalTraining(batch_size=8, path_importance=True)
    context = node()
    said, _ = said_by(app(training), context, 1)
    assert said["path-layers"] == ["0.weight", "3.weight"]
    first = plain(training, 1).importance
    assert said["path-importance"] == [first["0.weight"], first["3.weight"]]
    said, _ = said_by(app(training), context, 2)
    both = plain(training, 2, importance=first).importance
    assert said["path-importance"] == [both["0.weight"], both["3.weight"]]
    assert said["path-importance"][0] > first["0.weight"] > 0
    assert {k: float(v) for k, v in recalled(context, PATH_IMPORTANCE).items()} == both


def test_layers_are_named_as_they_were_sent() -> None:
    training = LocalTraining(batch_size=8, path_importance=True)
    numbered = {str(i): v for i, v in enumerate(initial_weights().values())}
    said, arrays = said_by(app(training), node(), 1, arrays_of(numbered))
    names = list(initial_weights())
    expected = [str(names.index("0.weight")), str(names.index("3.weight"))]
    assert said["path-layers"] == expected
    assert set(expected) < set(weights_of(arrays))


def test_a_numpy_client_sends_variances_as_bytes() -> None:
    training = LocalTraining(batch_size=8, feature_variance=FeatureVariance())
    client = SparseClient(build_net(), two_classes(), training, n_classes=N_CLASSES, client=1)
    _, _, metrics = client.fit(list(initial_weights().values()), {"server-round": 1})
    variances = np.frombuffer(metrics["class-variances"], "<f8")
    assert np.isnan(variances).tolist() == [False, True, True]
    assert np.frombuffer(metrics["class-counts"], "<f8").tolist() == [10, 1, 0]
    without = SparseClient(build_net(), two_classes(), LocalTraining(), n_classes=N_CLASSES)
    assert set(without.fit(list(initial_weights().values()), {"server-round": 1})[2]) == {
        "train_loss",
        "train_accuracy",
        "local-steps",
    }


def test_a_numpy_client_has_no_memory_for_path_importance() -> None:
    training = LocalTraining(path_importance=True)
    client = SparseClient(build_net(), samples_of(1), training, n_classes=N_CLASSES)
    with pytest.raises(ValueError, match=r"use fedcircuit.clients.client_app"):
        client.fit(list(initial_weights().values()), {"server-round": 1})
