"""A user's NumPyClient app under message-based strategies, and still under legacy ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flower_wire import compat
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    RecordDict,
)
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import FitIns, GetParametersIns, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.serverapp.strategy import FedAdam, FedAvg
from toy_federation import (
    N_CLASSES,
    SortedGrid,
    arrays_of,
    bits,
    build_net,
    initial_weights,
    samples_of,
    toy_app,
    weights_of,
)

from fedcircuit.clients.bridge import numpyclient_mod
from fedcircuit.clients.sparse_client import SparseClient
from fedcircuit.flower import identify_process
from fedcircuit.learning.training.local_training import LocalTraining
from fedcircuit.messages import IDENTITY_QUERY, SIDE_CHANNEL

NODE = {"partition-id": 1, "num-partitions": 3}


def sparse(context: Context) -> Client:
    partition = int(context.node_config["partition-id"])
    training = LocalTraining(epochs=2, batch_size=8, lr=0.1)
    client = SparseClient(
        build_net(), samples_of(partition), training, n_classes=N_CLASSES, client=partition
    )
    return client.to_client()


def bridged() -> ClientApp:
    return ClientApp(client_fn=sparse, mods=[numpyclient_mod])


class Doubler(NumPyClient):
    """Doubles every array; reports one metric of every kind."""

    def fit(self, parameters: list[Any], config: dict[str, Any]) -> tuple[list[Any], int, dict]:
        metrics = {"lr": config["lr"], "n": 3, "ok": True, "note": "hi", "raw": b"\x01"}
        return [2 * values for values in parameters], 7, metrics

    def evaluate(self, parameters: list[Any], config: dict[str, Any]) -> tuple[float, int, dict]:
        return float(np.sum(parameters[0])), 5, {"accuracy": 0.25, "note": "ho"}


def call(app: ClientApp, kind: str, content: RecordDict) -> Message:
    identify_process()
    message = Message(content, dst_node_id=9, message_type=kind)
    return app(message, Context(1, 9, NODE, RecordDict(), {}))


def doubler() -> ClientApp:
    return ClientApp(client_fn=lambda context: Doubler().to_client(), mods=[numpyclient_mod])


def instruction() -> RecordDict:
    weights = {"layer.w": np.array([[1.0, 2.0]], np.float32), "steps": np.array(4)}
    return RecordDict({"arrays": arrays_of(weights), "config": ConfigRecord({"lr": 0.5})})


@pytest.mark.parametrize("strategy", [FedAvg, FedAdam])
def test_a_bridged_numpyclient_trains_and_evaluates_like_a_native_client(strategy: type) -> None:
    results = [
        strategy().start(SortedGrid(app, 3), arrays_of(initial_weights()), num_rounds=2)
        for app in (toy_app(), bridged())
    ]
    native, bridge = (bits(weights_of(result.arrays)) for result in results)
    assert len(native) == 9
    assert native == bridge
    for kind in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        first, second = (getattr(result, kind) for result in results)
        assert {r: dict(m) for r, m in first.items()} == {r: dict(m) for r, m in second.items()}


def test_training_restores_names_dtypes_and_shapes_and_sorts_metrics_by_kind() -> None:
    content = call(doubler(), "train", instruction()).content
    assert list(content) == ["arrays", "metrics", "extra"]
    weights, array = weights_of(content["arrays"]), content["arrays"]["layer.w"]
    assert list(weights) == ["layer.w", "steps"]
    assert (array.dtype, array.shape) == ("float32", (1, 2))
    assert np.array_equal(weights["layer.w"], [[2.0, 4.0]])
    assert weights["steps"] == 8
    assert dict(content["metrics"]) == {"num-examples": 7, "lr": 0.5, "n": 3}
    assert dict(content["extra"]) == {"ok": True, "note": "hi", "raw": b"\x01"}


def test_evaluation_gives_one_metric_record_and_no_arrays() -> None:
    content = call(doubler(), "evaluate", instruction()).content
    assert list(content) == ["metrics", "extra"]
    assert dict(content["metrics"]) == {"num-examples": 5, "loss": 3.0, "accuracy": 0.25}
    assert dict(content["extra"]) == {"note": "ho"}


def test_what_is_for_rules_is_said_beside_the_metrics_which_are_averaged() -> None:
    sent = RecordDict({"arrays": arrays_of(initial_weights())})
    sent["config"] = ConfigRecord({"server-round": 1})
    content = call(bridged(), "train", sent).content
    assert set(content["metrics"]) == {"num-examples", "train_loss", "train_accuracy"}
    assert dict(content["extra"]) == {"local-steps": 8}  # two epochs of 28 samples by 8


def test_the_strategys_message_is_given_back_as_it_was() -> None:
    content = instruction()
    arrays = content["arrays"]
    identify_process()
    message = Message(content, dst_node_id=9, message_type="train")
    doubler()(message, Context(1, 9, NODE, RecordDict(), {}))
    assert message.content is content
    assert list(content) == ["arrays", "config"]
    assert content["arrays"] is arrays
    assert list(arrays) == ["layer.w", "steps"]


def test_the_message_is_restored_when_the_client_raises() -> None:
    content = instruction()
    del content["config"]["lr"]
    identify_process()
    message = Message(content, dst_node_id=9, message_type="train")
    with pytest.raises(KeyError, match="lr"):
        doubler()(message, Context(1, 9, NODE, RecordDict(), {}))
    assert message.content is content


def test_messages_of_legacy_strategies_pass_untouched() -> None:
    parameters = ndarrays_to_parameters([np.array([1.0, 2.0])])
    reply = call(
        doubler(), "train", compat.fitins_to_recorddict(FitIns(parameters, {"lr": 0.5}), True)
    )
    result = compat.recorddict_to_fitres(reply.content, keep_input=True)
    assert np.array_equal(parameters_to_ndarrays(result.parameters)[0], [2.0, 4.0])
    assert result.num_examples == 7
    assert result.metrics["note"] == "hi"


def test_other_message_types_pass_untouched() -> None:
    content = compat.getparametersins_to_recorddict(GetParametersIns({}))
    reply = call(bridged(), "get_parameters", content)
    parameters = compat.recorddict_to_getparametersres(reply.content, keep_input=True).parameters
    arrays = parameters_to_ndarrays(parameters)
    assert [a.tobytes() for a in arrays] == [a.tobytes() for a in initial_weights().values()]


@pytest.mark.parametrize("kind", ["query", "train.mine"])
def test_types_that_only_resemble_ours_reach_the_app(kind: str) -> None:
    seen = []

    def call_next(message: Message, context: Context) -> Message:
        seen.append(list(message.content))
        return Message(RecordDict(), reply_to=message)

    identify_process()
    message = Message(instruction(), dst_node_id=9, message_type=kind)
    reply = numpyclient_mod(message, Context(1, 9, NODE, RecordDict(), {}), call_next)
    assert seen == [["arrays", "config"]]
    assert list(reply.content) == []


def test_error_replies_pass_untouched() -> None:
    identify_process()
    message = Message(instruction(), dst_node_id=9, message_type="train")
    error = Message(Error(code=6, reason="the mod inside refused"), reply_to=message)
    reply = numpyclient_mod(message, Context(1, 9, NODE, RecordDict(), {}), lambda m, c: error)
    assert reply is error


def test_an_observing_strategy_learns_the_partition() -> None:
    content = call(bridged(), IDENTITY_QUERY, RecordDict()).content
    assert content[SIDE_CHANNEL]["partition-id"] == 1


def test_a_message_without_config_is_understood() -> None:
    content = call(doubler(), "evaluate", RecordDict({"a": instruction()["arrays"]})).content
    assert content["metrics"]["loss"] == 3.0


def test_two_records_of_arrays_are_refused() -> None:
    arrays = ArrayRecord({"w": Array(np.zeros(1))})
    with pytest.raises(ValueError, match=r"expected one ArrayRecord .*\['a', 'b'\]"):
        call(doubler(), "train", RecordDict({"a": arrays, "b": arrays}))


def test_another_number_of_arrays_than_was_sent_is_refused() -> None:
    class Forgetful(Doubler):
        def fit(self, parameters: list[Any], config: dict[str, Any]) -> tuple[list[Any], int, dict]:
            return parameters[:1], 7, {}

    app = ClientApp(client_fn=lambda c: Forgetful().to_client(), mods=[numpyclient_mod])
    with pytest.raises(ValueError, match="zip"):
        call(app, "train", instruction())
