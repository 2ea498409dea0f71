"""The message-based ClientApp: what it answers, and that it can be sent to another process."""

from __future__ import annotations

import functools
import importlib.metadata

import cloudpickle
import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
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

from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.round.model_circuits import circuits_of_model
from fedcircuit.circuits.round.sent_circuits import from_message
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.clients.app import client_app
from fedcircuit.clients.circuits import ClientCircuits
from fedcircuit.clients.sparse_client import SparseClient
from fedcircuit.flower import identify_process
from fedcircuit.learning.seeds import derived_seed
from fedcircuit.learning.training.local_training import LocalTraining
from fedcircuit.learning.weights import set_weights
from fedcircuit.messages import IDENTITY_QUERY, MASKS, SIDE_CHANNEL
from fedcircuit.samples import Samples

TRAINING = LocalTraining(epochs=2, batch_size=8, lr=0.1)
SETTINGS = CircuitSettings(controls=3)


def call(
    app: ClientApp,
    kind: str = "train",
    arrays: ArrayRecord | None = None,
    *,
    partition: int | None = 1,
    **config: int,
) -> Message:
    identify_process()
    content = RecordDict({"arrays": arrays_of(initial_weights()) if arrays is None else arrays})
    content["config"] = ConfigRecord({"server-round": 3, **config})
    message = Message(content, dst_node_id=9, message_type=kind)
    node = {} if partition is None else {"partition-id": partition, "num-partitions": 4}
    return app(message, Context(1, 9, node, RecordDict(), {}))


def expected(seed: int = 0) -> list[np.ndarray]:
    client = SparseClient(
        build_net(), samples_of(1), TRAINING, n_classes=N_CLASSES, seed=seed, client=1
    )
    return client.fit(list(initial_weights().values()), {"server-round": 3})[0]


def test_training_replies_what_a_sparse_client_would() -> None:
    content = call(toy_app(seed=4)).content
    assert list(content.array_records) == ["arrays"]
    assert list(content.metric_records) == ["metrics"]
    weights = weights_of(content["arrays"])
    assert list(weights) == list(initial_weights())
    assert [w.tobytes() for w in weights.values()] == [w.tobytes() for w in expected(4)]
    assert set(content["metrics"]) == {"num-examples", "train_loss", "train_accuracy"}
    assert content["metrics"]["num-examples"] == 28


def test_the_side_channel_says_partition_version_class_counts_and_steps() -> None:
    assert dict(call(toy_app()).content[SIDE_CHANNEL]) == {
        "partition-id": 1,
        "version": importlib.metadata.version("fedcircuit"),
        "class-counts": [10, 9, 9],
        "local-steps": 8,  # two epochs of 28 samples by 8
    }


def test_class_counts_are_kept_back_on_request() -> None:
    said = dict(call(toy_app(class_counts=False)).content[SIDE_CHANNEL])

    assert set(said) == {"partition-id", "version", "local-steps"}


def test_evaluation_replies_loss_accuracy_and_count_alone() -> None:
    app = client_app(
        build_net, data_of, TRAINING, n_classes=N_CLASSES, test=lambda context: samples_of(3)
    )
    content = call(app, "evaluate").content
    client = SparseClient(build_net(), samples_of(3), TRAINING, n_classes=N_CLASSES)
    loss, count, metrics = client.evaluate(list(initial_weights().values()), {})
    assert list(content) == ["metrics"]
    assert dict(content["metrics"]) == {"loss": loss, "num-examples": count, **metrics}


@pytest.mark.parametrize("kind", ["query", IDENTITY_QUERY])
def test_a_query_is_answered_with_the_partition(kind: str) -> None:
    assert call(toy_app(), kind).content[SIDE_CHANNEL]["partition-id"] == 1


def test_weights_may_come_in_another_order_and_go_back_in_it() -> None:
    turned = dict(reversed(initial_weights().items()))
    weights = weights_of(call(toy_app(), arrays=arrays_of(turned)).content["arrays"])
    assert list(weights) == list(turned)
    usual = weights_of(call(toy_app()).content["arrays"])
    assert bits(dict(reversed(weights.items()))) == bits(usual)


def test_weights_may_come_numbered_and_go_back_so() -> None:
    numbered = ArrayRecord(list(initial_weights().values()))
    weights = weights_of(call(toy_app(), arrays=numbered).content["arrays"])
    assert list(weights) == [str(index) for index in range(9)]
    assert [w.tobytes() for w in weights.values()] == [w.tobytes() for w in expected()]


def test_the_app_survives_the_journey_to_another_process() -> None:
    copy = cloudpickle.loads(cloudpickle.dumps(toy_app(seed=2)))
    assert bits(weights_of(call(copy).content["arrays"])) == bits(
        weights_of(call(toy_app(seed=2)).content["arrays"])
    )


def test_a_model_factory_need_not_be_hashable() -> None:
    class Factory:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self) -> torch.nn.Module:
            return build_net()

    app = client_app(Factory(), data_of, TRAINING, n_classes=N_CLASSES)
    weights = weights_of(call(app).content["arrays"])
    assert [w.tobytes() for w in weights.values()] == [w.tobytes() for w in expected()]


def test_one_client_leaves_nothing_behind_for_the_next() -> None:
    app = toy_app()
    first = weights_of(call(app).content["arrays"])
    call(app, partition=2)
    assert bits(weights_of(call(app).content["arrays"])) == bits(first)


def test_mods_surround_every_answer() -> None:
    def sign(message: Message, context: Context, call_next) -> Message:  # type: ignore[no-untyped-def]
        reply = call_next(message, context)
        reply.content["signed"] = ConfigRecord({"by": "me"})
        return reply

    assert call(toy_app(mods=[sign]), "evaluate").content["signed"]["by"] == "me"


def test_clients_send_the_circuits_they_find_on_their_own_data() -> None:
    content = call(toy_app(circuits=ClientCircuits(SETTINGS))).content
    sent = from_message(dict(content[SIDE_CHANNEL]), n_classes=N_CLASSES, n_units=5)
    assert sent is not None
    seed = derived_seed(0, "client-circuits", 3, 1)
    model = build_net()
    set_weights(model, weights_of(content["arrays"]))
    probe = Probe.split(samples_of(1), ("0", "1", "2"), seed)
    found = circuits_of_model(model, probe, SETTINGS, seed=seed)
    assert torch.equal(sent.found, found.found)
    assert torch.equal(sent.masks, found.masks)
    assert bool(sent.found.any())
    assert sent.validity is not None
    assert [one.status for one in sent.validity] == [one.status for one in found.validity]


def test_looking_for_circuits_does_not_change_the_training() -> None:
    looking = call(toy_app(circuits=ClientCircuits(SETTINGS))).content["arrays"]
    assert bits(weights_of(looking)) == bits(weights_of(call(toy_app()).content["arrays"]))


def test_circuits_are_sent_only_in_the_rounds_asked_for() -> None:
    app = toy_app(circuits=ClientCircuits(SETTINGS, every=2))
    assert MASKS not in call(app).content[SIDE_CHANNEL]
    assert MASKS in call(app, **{"server-round": 4}).content[SIDE_CHANNEL]


def few_samples(context: Context) -> Samples:
    return samples_of(0).take(torch.tensor([0, 1, 2]))  # one of each class


def test_a_client_without_two_samples_of_a_class_trains_and_sends_no_circuits() -> None:
    app = client_app(
        build_net, few_samples, TRAINING, n_classes=N_CLASSES, circuits=ClientCircuits(SETTINGS)
    )
    content = call(app).content
    assert MASKS not in content[SIDE_CHANNEL]
    assert content["metrics"]["num-examples"] == 3


def one_class(context: Context) -> Samples:
    samples = samples_of(1)
    return samples.take((samples.labels == samples.labels[0]).nonzero().flatten())


@pytest.mark.parametrize(("ablation", "sends"), [("mean", True), ("resample", False)])
def test_a_client_of_one_class_cannot_resample_from_another(ablation, sends) -> None:
    circuits = ClientCircuits(CircuitSettings(controls=3, ablation=ablation))
    app = client_app(build_net, one_class, TRAINING, n_classes=N_CLASSES, circuits=circuits)
    assert (MASKS in call(app).content[SIDE_CHANNEL]) == sends


def test_clients_look_for_circuits_with_resample_ablation_too() -> None:
    circuits = ClientCircuits(CircuitSettings(controls=3, ablation="resample"))
    content = call(toy_app(circuits=circuits)).content
    sent = from_message(dict(content[SIDE_CHANNEL]), n_classes=N_CLASSES, n_units=5)
    assert sent is not None
    assert bool(sent.found.any())


def test_a_node_without_a_partition_is_told_how_to_start() -> None:
    with pytest.raises(ValueError, match="--node-config"):
        call(toy_app(), partition=None)


def test_weights_of_another_model_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"the message has the weights \['w'\]"):
        call(toy_app(), arrays=arrays_of({"w": np.zeros(2)}))


def test_more_than_one_record_of_arrays_is_refused() -> None:
    identify_process()
    arrays = arrays_of(initial_weights())
    content = RecordDict({"a": arrays, "b": arrays})
    message = Message(content, dst_node_id=9, message_type="train")
    with pytest.raises(ValueError, match=r"expected one ArrayRecord.*'a', 'b'"):
        toy_app()(message, Context(1, 9, {"partition-id": 0}, RecordDict(), {}))


def test_circuits_every_zero_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="every must be >= 1"):
        ClientCircuits(SETTINGS, every=0)


def test_a_factory_bound_to_arguments_works() -> None:
    app = client_app(functools.partial(build_net), data_of, TRAINING, n_classes=N_CLASSES)
    assert call(app).has_content()
