"""A Flower ClientApp of SparseClients, and of what they say beside their weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from fedcircuit import messages
from fedcircuit.circuits.exchange import to_message
from fedcircuit.circuits.model_circuits import circuits_of_model
from fedcircuit.circuits.probe import Probe
from fedcircuit.circuits.settings import CircuitSettings
from fedcircuit.clients.sparse_client import SparseClient
from fedcircuit.learning.seeds import derived_seed
from fedcircuit.learning.training import LocalTraining
from fedcircuit.samples import Samples

ModelFactory = Callable[[], nn.Module]
ClientData = Callable[[Context], Samples]


@dataclass(frozen=True)
class ClientCircuits:
    """Clients look for circuits on their own data and send the masks: no data, a few kilobytes.

    The masks tell which units matter for which class, and so which classes a client holds.

    Parameters
    ----------
    settings
        Method and ablation, as on the server.
    """

    settings: CircuitSettings


def client_app(
    model: ModelFactory,
    data: ClientData,
    training: LocalTraining,
    *,
    n_classes: int,
    seed: int = 0,
    circuits: ClientCircuits | None = None,
) -> ClientApp:
    """A ClientApp for message-based strategies that can be sent to any worker.

    Parameters
    ----------
    model
        Builds the network; every client trains a copy of its own.
    data
        Samples of the client that a Context describes (``context.node_config``).
    training
        How a client trains.
    n_classes
        Number of logits.
    seed
        Training of client k in round t is seeded by (seed, t, k).
    circuits
        Look for circuits on the clients' own data as well.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = _client(model, data, training, n_classes, seed, context)
        names, arrays, config = _incoming(message)
        weights, count, metrics = client.fit(arrays, config)
        extra = _identity(client, n_classes)
        if circuits is not None:
            extra.update(_circuits(client, circuits, int(config.get("server-round", 0))))
        content = RecordDict(
            {
                "arrays": ArrayRecord(
                    {name: Array(w) for name, w in zip(names, weights, strict=True)}
                ),
                "metrics": MetricRecord({**metrics, "num-examples": count}),
                messages.SIDE_CHANNEL: ConfigRecord(extra),
            }
        )
        return Message(content=content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        client = _client(model, data, training, n_classes, seed, context)
        _, arrays, config = _incoming(message)
        loss, count, metrics = client.evaluate(arrays, config)
        record = MetricRecord({**metrics, "loss": loss, "num-examples": count})
        return Message(content=RecordDict({"metrics": record}), reply_to=message)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        content = RecordDict({messages.SIDE_CHANNEL: ConfigRecord(_who(_partition(context)))})
        return Message(content=content, reply_to=message)

    return app


@lru_cache(maxsize=1)
def _pristine(model: ModelFactory) -> nn.Module:
    return model()


def _client(
    model: ModelFactory,
    data: ClientData,
    training: LocalTraining,
    n_classes: int,
    seed: int,
    context: Context,
) -> SparseClient:
    return SparseClient(
        copy.deepcopy(_pristine(model)),  # building anew would initialise weights for nothing
        data(context),
        training,
        n_classes=n_classes,
        seed=seed,
        client=_partition(context),
    )


def _partition(context: Context) -> int:
    try:
        return int(context.node_config["partition-id"])
    except KeyError as error:
        raise ValueError(
            "the node has no partition-id; start it with "
            '--node-config "partition-id=0 num-partitions=..."'
        ) from error


def _incoming(message: Message) -> tuple[list[str], list[Any], dict[str, Any]]:
    (arrays,) = message.content.array_records.values()
    configs = list(message.content.config_records.values())
    config = dict(configs[0].items()) if configs else {}
    return list(arrays), [array.numpy() for array in arrays.values()], config


def _who(client: int) -> dict[str, Any]:
    return {messages.PARTITION_ID: client, messages.CODE_VERSION: version("fedcircuit")}


def _identity(client: SparseClient, n_classes: int) -> dict[str, Any]:
    counts = client.samples.counts(n_classes).tolist()
    return {**_who(client.client), messages.CLASS_COUNTS: counts}


def _circuits(client: SparseClient, circuits: ClientCircuits, round_number: int) -> dict[str, Any]:
    """Circuits of the client's own model, found and checked on its own data, packed."""
    seed = derived_seed(client.seed, "client-circuits", round_number, client.client)
    samples, names = client.samples, tuple(map(str, range(client.n_classes)))
    counts = samples.counts(client.n_classes)
    # a single sample of a class cannot both find a circuit and check it
    probe = Probe.split(samples.take(counts[samples.labels] > 1), names, seed)
    found = circuits_of_model(client.model, probe, circuits.settings, seed=seed)
    return dict(to_message(found.masks, found.found, found.validity))
