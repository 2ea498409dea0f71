"""A Flower ClientApp of SparseClients, and of what they say beside their weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from fedcircuit import messages
from fedcircuit.clients import for_rules, lips, memory, own_tensors, path_importance
from fedcircuit.clients.arrays import array_record
from fedcircuit.clients.circuits import ClientCircuits
from fedcircuit.clients.identity import identity, partition_of
from fedcircuit.clients.sparse_client import SparseClient, round_of, training_metrics
from fedcircuit.learning import Weights, get_weights
from fedcircuit.learning.training import LocalTraining, last_gradient
from fedcircuit.samples import Samples
from fedcircuit.wire import decoded

ModelFactory = Callable[[], nn.Module]
ClientData = Callable[[Context], Samples]
Mod = Callable[[Message, Context, Callable[[Message, Context], Message]], Message]


def client_app(
    model: ModelFactory,
    data: ClientData,
    training: LocalTraining,
    *,
    n_classes: int,
    seed: int = 0,
    circuits: ClientCircuits | None = None,
    test: ClientData | None = None,
    personal_eval: bool = False,
    class_counts: bool = True,
    mods: Sequence[Mod] = (),
    remembered: Mapping[int, memory.Memories] | None = None,
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
        Training of client k in round t is seeded by (seed, t, k); with ``training.steps`` its
        mini-batches are numbers (t - 1) * steps and on of a sequence seeded by (seed, k).
    circuits
        Look for circuits on the clients' own data as well.
    test
        Samples to evaluate on; left out: the training samples.
    personal_eval
        Measure the model just trained on the ``test`` samples too (``test_accuracy``,
        ``test_loss`` of every reply); the global model is measured there by federated evaluation.
    class_counts
        Say with every reply how many training samples of each class the client has. Variances of
        features, where ``training`` asks for them, tell which classes it has all the same.
    mods
        Flower's client mods, such as those for differential privacy; the first is outermost.
    remembered
        For a run that goes on after it stopped: by partition, what the client remembered, by the
        keys of ``fedcircuit.clients.memory``, such as its own batch norm with
        ``training.batch_norm`` 'own'. Nodes that remember their own use that.
    """
    app = ClientApp(mods=list(mods))
    clients = _Clients(
        model, data, training, n_classes, seed, circuits, test, personal_eval, class_counts,
        {} if remembered is None else remembered,
    )  # fmt: skip
    app.train()(clients.train)
    app.evaluate()(clients.evaluate)
    app.query()(clients.query)
    app.query(messages.IDENTITY_QUERY.partition(".")[2])(clients.query)
    return app


@dataclass(frozen=True)
class _Clients:
    """What all clients have in common, and how they answer; see :func:`client_app`."""

    model: ModelFactory
    data: ClientData
    training: LocalTraining
    n_classes: int
    seed: int
    circuits: ClientCircuits | None
    test: ClientData | None
    personal_eval: bool
    class_counts: bool
    remembered: Mapping[int, memory.Memories] = field(default_factory=dict)

    def train(self, message: Message, context: Context) -> Message:
        """Train, and say who did."""
        client = self._client(context)
        sent = _incoming(message, client.model)
        own = self._own_names(client.model, sent)
        memory.recall_from_before(self.remembered, context)
        moments = client.moments(sent.weights)
        tensors = for_rules.Trained.of(client.model, sent.names)
        drift = for_rules.drift_of(self.training, tensors, context, sent.config)
        whole = own_tensors.with_own(sent.weights, own, context)
        start, masked = lips.local_start(whole, sent.config, context, sent.names)
        kept = self.training.optimizer_state == "kept"
        before = memory.recalled(context, memory.OPTIMIZER) if kept else {}
        followed = path_importance.remembered(context) if self.training.path_importance else {}
        result = client.train(start, sent.config, before, followed, drift)
        if kept:
            memory.keep(context, memory.OPTIMIZER, result.optimizer)
        lips.remember(client.model, sent.config, context, sent.names, last_gradient)
        trained = get_weights(client.model)
        own_tensors.keep_own(trained, own, context)
        said = identity(context)
        if masked is not None:
            said[messages.LIPS_KEPT] = masked
        if self.class_counts:
            said[messages.CLASS_COUNTS] = client.samples.counts(self.n_classes).tolist()
        if result.class_variances is not None:
            said[messages.CLASS_VARIANCES] = list(result.class_variances)
        said.update(path_importance.remember(result, context, sent.names))
        said.update(for_rules.measured(result, moments, tensors))
        said.update(for_rules.remembered(self.training, tensors, context, result, start, trained))
        number = round_of(sent.config)
        said.update(client.own_circuits(number))
        arrays = array_record({name: trained[known] for name, known in sent.names.items()})
        metrics = {**training_metrics(result), "num-examples": result.num_examples}
        if self.personal_eval or sent.config.get(messages.PERSONAL_EVAL, False):
            personal = client.assess(trained)
            metrics.update(test_loss=personal.loss, test_accuracy=personal.accuracy)
        content = RecordDict(
            {
                sent.key: arrays,
                "metrics": MetricRecord(metrics),
                messages.SIDE_CHANNEL: ConfigRecord(said),
            }
        )
        return Message(content, reply_to=message)

    def evaluate(self, message: Message, context: Context) -> Message:
        """Evaluate the weights sent."""
        client = self._client(context)
        sent = _incoming(message, client.model)
        memory.recall_from_before(self.remembered, context)
        own = self._own_names(client.model, sent)
        weights = own_tensors.with_own(sent.weights, own, context)
        result = client.assess(weights, sent.config)
        metrics = {"loss": result.loss, "accuracy": result.accuracy}
        record = MetricRecord({**metrics, "num-examples": len(client.test)})
        return Message(RecordDict({"metrics": record}), reply_to=message)

    def query(self, message: Message, context: Context) -> Message:
        """Say which partition this client holds."""
        content = RecordDict({messages.SIDE_CHANNEL: ConfigRecord(identity(context))})
        return Message(content, reply_to=message)

    def _own_names(self, model: nn.Module, sent: _Incoming) -> tuple[str, ...]:
        """Tensors that the client keeps for itself, by FedBN, by LIPS or by both."""
        fedbn = own_tensors.own_names(model) if self.training.batch_norm == "own" else ()
        local = lips.local_names(sent.config, sent.names)
        if local and self.training.feddyn_alpha:
            raise ValueError(
                f"feddyn_alpha needs every parameter averaged, {messages.LIPS_LOCAL} keeps {local} "
                "with the clients; use LIPS with sync_bn, or leave feddyn_alpha out"
            )
        return tuple(dict.fromkeys([*fedbn, *local]))

    def _client(self, context: Context) -> SparseClient:
        partition = partition_of(context)  # first: its error says what is missing
        return SparseClient(
            _copy_of(self.model),
            self.data(context),
            self.training,
            n_classes=self.n_classes,
            seed=self.seed,
            client=partition,
            circuits=self.circuits,
            test=None if self.test is None else self.test(context),
        )


def _copy_of(model: ModelFactory) -> nn.Module:
    """A fresh network; copied, as initialising weights that are replaced at once takes longer."""
    try:
        return copy.deepcopy(_built(model))
    except TypeError:  # a factory that cannot be hashed
        return model()


@lru_cache(maxsize=1)
def _built(model: ModelFactory) -> nn.Module:
    return model()


@dataclass(frozen=True)
class _Incoming:
    """What a message brings: weights under the model's names, and what they were called."""

    key: str  # of the one ArrayRecord
    names: dict[str, str]  # as sent -> as the model calls it
    weights: Weights
    config: dict[str, Any]


def _incoming(message: Message, model: nn.Module) -> _Incoming:
    """Read a message.

    Raises
    ------
    ValueError
        If it holds another number of ArrayRecords than one, or misses some of the model's weights.
    """
    records = {n: r for n, r in message.content.items() if isinstance(r, ArrayRecord)}
    configs = [r for r in message.content.values() if isinstance(r, ConfigRecord)]
    if len(records) != 1:
        raise ValueError(f"expected one ArrayRecord in the message, got {list(records)}")
    ((key, arrays),) = records.items()
    own = list(model.state_dict())
    numbered = list(arrays) == [str(index) for index in range(len(own))]  # sent as a bare list
    names = dict(zip(arrays, own if numbered else arrays, strict=True))
    weights = {names[name]: decoded(array) for name, array in arrays.items()}
    if set(weights) != set(own):
        raise ValueError(f"the message has the weights {list(weights)}, the model {own}")
    config = {name: value for record in configs for name, value in record.items()}
    return _Incoming(key, names, weights, config)
