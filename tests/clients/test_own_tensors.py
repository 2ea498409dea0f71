"""FedBN: batch norm that stays with its client, in our clients and in other people's."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client import Client
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from torch import nn
from toy_federation import (
    N_CLASSES,
    N_INPUTS,
    SortedGrid,
    Witness,
    arrays_of,
    bits,
    build_net,
    data_of,
    initial_weights,
    samples_of,
    weights_of,
)

from fedcircuit.clients.app import client_app
from fedcircuit.clients.bridge import numpyclient_mod
from fedcircuit.clients.memory import OWN, keep, recalled
from fedcircuit.clients.own_tensors import FedBNMod
from fedcircuit.clients.sparse_client import SparseClient
from fedcircuit.flower import identify_process
from fedcircuit.learning.networks.layers import batch_norm_tensors
from fedcircuit.learning.training.local_training import LocalTraining
from fedcircuit.learning.weights import Weights
from fedcircuit.strategies.observing import observe

NORM = ("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
SHARED = LocalTraining(epochs=2, batch_size=8, lr=0.1)
OWN_NORM = LocalTraining(epochs=2, batch_size=8, lr=0.1, batch_norm="own")


def our_app(training: LocalTraining = OWN_NORM) -> ClientApp:
    return client_app(build_net, data_of, training, n_classes=N_CLASSES)


def numpy_app() -> ClientApp:
    def client_fn(context: Context) -> Client:
        number = int(context.node_config["partition-id"])
        client = SparseClient(
            build_net(), samples_of(number), SHARED, n_classes=N_CLASSES, client=number
        )
        return client.to_client()

    return ClientApp(client_fn=client_fn, mods=[FedBNMod(build_net), numpyclient_mod])


def modded_app() -> ClientApp:
    return client_app(build_net, data_of, SHARED, n_classes=N_CLASSES, mods=[FedBNMod(build_net)])


def watched(app: ClientApp, rounds: int = 3) -> Witness:
    witness = Witness()
    strategy = observe(FedAvg(), observers=[witness])
    strategy.start(SortedGrid(app, 3), arrays_of(initial_weights()), num_rounds=rounds)
    assert len(witness.views) == rounds
    return witness


def test_batch_norm_is_found_by_type() -> None:
    assert batch_norm_tensors(build_net()) == NORM
    nested = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm2d(4, affine=False)))
    assert batch_norm_tensors(nested) == (
        "1.0.running_mean", "1.0.running_var", "1.0.num_batches_tracked",
    )  # fmt: skip
    assert batch_norm_tensors(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))) == ()


def test_every_client_goes_on_with_its_own_batch_norm_and_the_others_weights() -> None:
    views = watched(our_app()).views
    for number in (2, 3):
        was, now = views[number - 2], views[number - 1]
        for before, after in zip(was.clients, now.clients, strict=True):
            # independently: a client that starts from the average and its own batch norm
            start = {**was.after, **{name: before.weights[name] for name in NORM}}
            client = int(after.client)
            twin = SparseClient(
                build_net(), samples_of(client), SHARED, n_classes=N_CLASSES, client=client
            )
            twin.train(start, {"server-round": number})
            expected = {n: v.detach().numpy() for n, v in twin.model.state_dict().items()}
            assert bits(after.weights) == bits(expected)


def test_statistics_go_on_over_rounds_and_the_average_is_not_used() -> None:
    own, shared = watched(our_app()).views, watched(our_app(SHARED)).views
    assert bits(own[0].after) == bits(shared[0].after)  # in round 1 nobody has any of its own
    assert bits(own[1].after) != bits(shared[1].after)
    for client, record in enumerate(own[2].clients):
        steps = 2 * -(-(24 + 4 * client) // 8)
        assert int(record.weights["1.num_batches_tracked"]) == 3 * steps


def test_clients_are_evaluated_with_their_own_batch_norm() -> None:
    identify_process()
    context = Context(1, 9, {"partition-id": 1}, RecordDict(), {})
    own = {name: initial_weights()[name] for name in NORM}
    own["1.running_mean"] = np.full(5, 30.0, np.float32)
    losses = []
    for app in (our_app(), modded_app(), our_app(SHARED)):
        keep(context, OWN, own)
        content = RecordDict({"arrays": arrays_of(initial_weights())})
        content["config"] = ConfigRecord({"server-round": 2})
        reply = app(Message(content, dst_node_id=9, message_type="evaluate"), context)
        losses.append(reply.content["metrics"]["loss"])
    client = SparseClient(build_net(), samples_of(1), SHARED, n_classes=N_CLASSES)
    assert losses[0] == losses[1] == client.assess({**initial_weights(), **own}).loss
    assert losses[2] == client.assess(initial_weights()).loss != losses[0]


@pytest.mark.parametrize("app", [modded_app, numpy_app])
def test_the_mod_gives_other_peoples_clients_the_same(app) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = watched(our_app()).views, watched(app()).views
    for here, there in zip(ours, theirs, strict=True):
        assert bits(here.after) == bits(there.after)


def one(app: ClientApp, context: Context, weights: Weights) -> Weights:
    identify_process()
    content = RecordDict({"arrays": arrays_of(weights)})
    content["config"] = ConfigRecord({"server-round": 2})
    return weights_of(app(Message(content, 9, "train"), context).content["arrays"])


def test_a_node_that_remembers_nothing_takes_what_an_earlier_run_kept() -> None:
    own = {name: np.asarray(initial_weights()[name] + 1) for name in NORM}
    app = client_app(
        build_net,
        data_of,
        OWN_NORM,
        n_classes=N_CLASSES,
        remembered={1: {OWN: own}, 2: {OWN: initial_weights()}},
    )
    empty = Context(1, 9, {"partition-id": 1}, RecordDict(), {})
    knowing = Context(1, 9, {"partition-id": 1}, RecordDict(), {})
    keep(knowing, OWN, own)
    given = one(app, empty, initial_weights())
    assert bits(given) == bits(one(our_app(), knowing, initial_weights()))
    assert sorted(recalled(empty, OWN)) == sorted(NORM)
    other = {name: np.asarray(values + 2) for name, values in own.items()}
    keep(knowing, OWN, other)  # what the node remembers itself comes first
    assert bits(one(app, knowing, initial_weights())) != bits(given)


def test_one_record_is_not_written_to_and_other_messages_pass() -> None:
    context = Context(1, 9, {"partition-id": 1}, RecordDict(), {})
    sent = RecordDict({"arrays": arrays_of(initial_weights())})
    sent["config"] = ConfigRecord({"server-round": 1})
    keep(context, OWN, {"1.bias": np.full(5, 9.0, np.float32)})
    modded_app()(Message(sent, 9, "train"), context)
    assert bits(weights_of(sent["arrays"])) == bits(initial_weights())
    assert modded_app()(Message(RecordDict(), 9, "query"), context).has_content()


class Echo:
    """A client of one's own under the mod: shows what it was given, replies it moved by one."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Weights]] = []
        self.fails = False
        self.app = ClientApp(mods=[FedBNMod(build_net)])
        self.context = Context(1, 9, {"partition-id": 1}, RecordDict(), {})
        for kind in (self.app.train, self.app.evaluate, self.app.query):
            kind()(self.answer)
            kind("own")(self.answer)

    def answer(self, message: Message, context: Context) -> Message:
        given = weights_of(message.content["arrays"])
        self.seen.append((message.metadata.message_type, given))
        if self.fails:
            raise OSError("no battery")
        moved = {name: np.asarray(values + 1) for name, values in given.items()}
        return Message(RecordDict({"arrays": arrays_of(moved)}), reply_to=message)

    def send(self, kind: str, weights: Weights) -> RecordDict:
        identify_process()
        content = RecordDict({"arrays": arrays_of(weights)})
        self.app(Message(content, 9, kind), self.context)
        return content

    def own(self) -> Weights:
        return recalled(self.context, OWN)


def norm_of(weights: Weights) -> dict[str, tuple[str, bytes]]:
    return bits({name: weights[name] for name in NORM})


@pytest.mark.parametrize("end", ["", ".own"])
def test_the_mod_keeps_what_training_replies_and_only_shows_it_to_evaluation(end: str) -> None:
    client, start = Echo(), initial_weights()
    other = {name: np.asarray(values + 5) for name, values in start.items()}
    client.send(f"evaluate{end}", start)
    assert client.own() == {}  # the reply of an evaluation has arrays too, and nothing is kept
    client.send(f"train{end}", start)
    trained = {name: np.asarray(start[name] + 1) for name in NORM}
    assert bits(client.own()) == bits(trained)
    client.send(f"evaluate{end}", other)
    assert bits(client.own()) == bits(trained)
    client.send(f"train{end}", other)
    assert norm_of(client.own()) == norm_of({n: np.asarray(trained[n] + 1) for n in NORM})
    shown = [norm_of(given) for _, given in client.seen]
    assert shown == [norm_of(start), norm_of(start), norm_of(trained), norm_of(trained)]
    for number, sent in ((2, other), (3, other)):  # all else is as it was sent
        given = client.seen[number][1]
        rest = [name for name in start if name not in NORM]
        assert all(given[name].tobytes() == sent[name].tobytes() for name in rest)


def test_the_mod_leaves_questions_alone_and_keeps_nothing_of_a_training_that_failed() -> None:
    client, start = Echo(), initial_weights()
    client.send("train", start)
    before = bits(client.own())
    client.send("query", start)
    assert norm_of(client.seen[-1][1]) == norm_of(start)
    assert bits(client.own()) == before
    client.fails = True
    content = RecordDict({"arrays": arrays_of(start)})
    message = Message(content, 9, "train")
    identify_process()
    with pytest.raises(OSError, match="no battery"):
        client.app(message, client.context)
    assert bits(client.own()) == before
    assert message.content is content  # given back, as other clients may share it


def test_the_mod_keeps_nothing_of_a_training_that_replies_an_error() -> None:
    context = Context(1, 9, {"partition-id": 1}, RecordDict(), {})
    identify_process()
    message = Message(RecordDict({"arrays": arrays_of(initial_weights())}), 9, "train")

    def refuse(message: Message, context: Context) -> Message:
        return Message(Error(7, "busy"), reply_to=message)

    reply = FedBNMod(build_net)(message, context, refuse)
    assert reply.error.code == 7
    assert recalled(context, OWN) == {}


def no_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(N_INPUTS, N_CLASSES))


def test_a_model_without_batch_norm_is_refused() -> None:
    context = Context(1, 9, {"partition-id": 1}, RecordDict(), {})
    weights = {name: v.detach().numpy() for name, v in no_norm().state_dict().items()}
    for app in (
        client_app(no_norm, data_of, OWN_NORM, n_classes=N_CLASSES),
        client_app(no_norm, data_of, SHARED, n_classes=N_CLASSES, mods=[FedBNMod(no_norm)]),
    ):
        with pytest.raises(ValueError, match="needs a model with batch norm, Sequential has none"):
            one(app, context, weights)


def test_the_mod_refuses_tensors_that_are_not_its_models() -> None:
    context = Context(1, 9, {"partition-id": 1}, RecordDict(), {})
    with pytest.raises(ValueError, match=r"FedBNMod knows the tensors .*, the message has \['w'\]"):
        one(modded_app(), context, {"w": np.zeros(2)})


def test_a_numpy_client_alone_cannot_keep_batch_norm_and_says_what_can() -> None:
    client = SparseClient(build_net(), samples_of(1), OWN_NORM, n_classes=N_CLASSES)
    with pytest.raises(ValueError, match=r"client_app, or .* ClientApp\(mods=\[FedBNMod\(model\)"):
        client.fit(list(initial_weights().values()), {"server-round": 1})
