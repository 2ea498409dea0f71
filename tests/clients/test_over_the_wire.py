"""Every reply and every memory of a client goes over Flower's wire and back: a simulation never
serialises, a deployment always does."""

from __future__ import annotations

import numpy as np
import pytest
from flower_wire import get_all_nested_objects, inflate_object_from_contents
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client import Client
from flwr.clientapp import ClientApp
from toy_federation import (
    N_CLASSES,
    arrays_of,
    bits,
    build_net,
    data_of,
    initial_weights,
    samples_of,
    toy_app,
    weights_of,
)

from fedcircuit import messages
from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.clients.app import client_app
from fedcircuit.clients.bridge import numpyclient_mod
from fedcircuit.clients.circuits import ClientCircuits
from fedcircuit.clients.sparse_client import SparseClient
from fedcircuit.flower import identify_process
from fedcircuit.learning.training import FeatureVariance
from fedcircuit.learning.training.local_training import LocalTraining

LIPS = {
    messages.LIPS_DENSITY: 0.5,
    messages.LIPS_SCORE: "sensitivity",
    messages.LIPS_SCOPE: "per_layer",
    messages.LIPS_LAYERS: ["0.weight"],
    messages.LIPS_SEED: 1,
    messages.LIPS_LOCAL: ["1.weight"],
    messages.PERSONAL_EVAL: True,
}


def delivered(content: RecordDict) -> RecordDict:
    """What arrives at the other end: object by object, as a SuperLink stores and serves them."""
    contents = {key: item.deflate() for key, item in get_all_nested_objects(content).items()}
    arrived = inflate_object_from_contents(content.object_id, contents)
    assert isinstance(arrived, RecordDict)
    return arrived


def numpy_client() -> ClientApp:
    def client_fn(context: Context) -> Client:
        training = LocalTraining(epochs=1, batch_size=8, lr=0.1)
        return SparseClient(build_net(), samples_of(1), training, n_classes=N_CLASSES).to_client()

    return ClientApp(client_fn=client_fn, mods=[numpyclient_mod])


def optimiser_keeping_client() -> ClientApp:
    training = LocalTraining(
        steps=3, batch_size=8, lr=0.1, optimizer="adam", optimizer_state="kept"
    )
    return client_app(build_net, data_of, training, n_classes=N_CLASSES)


def client_for_rules(**more: object) -> ClientApp:
    options = {"fisher": True, "class_moments": True, "path_importance": True, **more}
    training = LocalTraining(batch_size=8, feature_variance=FeatureVariance(), **options)  # type: ignore[arg-type]
    return client_app(build_net, data_of, training, n_classes=N_CLASSES)


CLIENTS = {
    "for all rules, with SCAFFOLD": client_for_rules(scaffold=True),
    "for all rules, with FedDyn": client_for_rules(feddyn_alpha=0.1),
    "plain": toy_app(),
    "with circuits": toy_app(circuits=ClientCircuits(CircuitSettings(controls=2))),
    "with tests of its own": toy_app(test=data_of, personal_eval=True),
    "that keeps its optimiser": optimiser_keeping_client(),
    "numpy": numpy_client(),
}


def asked(app: ClientApp, kind: str, context: Context, **config: object) -> RecordDict:
    identify_process()
    sent = RecordDict({"arrays": arrays_of(initial_weights())})
    sent["config"] = ConfigRecord({"server-round": 1, **config})  # type: ignore[dict-item]
    message = Message(delivered(sent), dst_node_id=9, message_type=kind)
    return app(message, context).content


def a_context() -> Context:
    return Context(1, 9, {"partition-id": 1, "num-partitions": 4}, RecordDict(), {})


@pytest.mark.parametrize("kind", ["train", "evaluate", messages.IDENTITY_QUERY])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_reply_arrives_as_it_was_sent(name: str, kind: str) -> None:
    context = a_context()
    said = asked(CLIENTS[name], kind, context)

    arrived = delivered(said)

    assert list(arrived) == list(said)
    for key, record in said.items():
        if isinstance(record, ArrayRecord):
            there = arrived.array_records[key]
            assert {type(array) for array in record.values()} == {Array}
            assert bits(weights_of(there)) == bits(weights_of(record))
        else:
            assert dict(arrived[key].items()) == dict(record.items())
    memory = delivered(context.state)
    assert {key: bits(weights_of(there)) for key, there in memory.array_records.items()} == {
        key: bits(weights_of(here)) for key, here in context.state.array_records.items()
    }


def test_masks_and_memory_of_a_masked_download_arrive() -> None:
    context = a_context()
    arrived = delivered(asked(CLIENTS["with tests of its own"], "train", context, **LIPS))

    assert isinstance(arrived[messages.SIDE_CHANNEL][messages.LIPS_KEPT], bytes)
    assert {"lips/grad", "training/own"} <= set(delivered(context.state).array_records)


def test_the_server_s_control_variate_arrives_and_is_obeyed() -> None:
    app, size = CLIENTS["for all rules, with SCAFFOLD"], 4 * 63  # all parameters of the net
    control = np.ones(63, "<f4").tobytes()
    assert len(control) == size
    told, untold = (
        weights_of(asked(app, "train", a_context(), **config)["arrays"])
        for config in ({messages.SCAFFOLD_CONTROL: control}, {})
    )
    assert (told["3.bias"] < untold["3.bias"] - 0.1).all()


def test_what_the_grid_made_fast_to_read_can_still_be_sent() -> None:
    grid = InProcessGrid(toy_app(), 1)
    sent = RecordDict({"arrays": arrays_of(initial_weights())})
    sent["config"] = ConfigRecord({"server-round": 1})
    (reply,) = grid.send_and_receive([Message(sent, grid.get_node_ids()[0], "train")])
    here = weights_of(reply.content["arrays"])

    there = weights_of(delivered(reply.content)["arrays"])

    assert bits(there) == bits(here)
    assert all(isinstance(values, np.ndarray) for values in here.values())
