"""Flower's message-based strategies seen by a recorder: the only place that reads messages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedcircuit.learning import Weights
from fedcircuit.strategies.message_api.replies import (
    ReplyReader,
    metrics_of,
    node_of,
    weight_key,
    with_metrics,
    with_start,
)
from fedcircuit.strategies.message_api.sent_weights import Downloads
from fedcircuit.strategies.nodes import NodeWait, OrderedGrid, Roster, seeded_sampling
from fedcircuit.strategies.preflight import PreflightError, WeightNames
from fedcircuit.strategies.recording import RoundRecorder, as_returned, strategy_state
from fedcircuit.strategies.replies import ClientError, Reply, client_order
from fedcircuit.wire import decoded

Configure = Callable[[int, ArrayRecord, ConfigRecord, Grid], Iterable[Message]]
Aggregate = Callable[[int, Iterable[Message]], tuple[ArrayRecord | None, MetricRecord | None]]
Evaluate = Callable[[int, Iterable[Message]], MetricRecord | None]


class MessageHooks:
    """What is done before and after a message-based strategy's own methods.

    Every method takes the strategy's own one as ``inner``. What is ours may fail without harm;
    what the strategy does may not, and passes.

    Parameters
    ----------
    strategy
        The strategy, for its state between rounds.
    recorder
        What collects and records.
    names
        Names of the weights, where those sent are only numbered.
    """

    def __init__(
        self, strategy: Strategy, recorder: RoundRecorder, names: WeightNames | None = None
    ) -> None:
        self.recorder = recorder
        self.roster = Roster(ask=recorder.options.identify)
        self.sent_dtypes: dict[str, np.dtype[np.generic]] = {}
        self.start_must_fit = False  # whether a first round from other weights is refused
        self._strategy = strategy
        self._number = 0  # what the strategy takes the round for
        self._names = WeightNames(None, None) if names is None else names
        self._sent: list[Message] = []
        self._downloads: Downloads | None = None
        self._sent_arrays: ArrayRecord | None = None
        self._grid: Grid | None = None

    def configure_train(
        self, inner: Configure, number: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Note the weights sent, sample reproducibly, and keep the messages."""
        self._grid = grid
        self.recorder.expect(number)
        number += self.recorder.options.round_offset
        self._number = number
        with self.recorder.guarded(f"the start of round {self.recorder.round}"):
            arrays = self._resumed(arrays)
            weights = self._weights(arrays)
            dtypes = (values.dtype for values in weights.values())
            self.sent_dtypes = dict(zip(arrays, dtypes, strict=True))
            self.recorder.begin(weights, strategy_state(self._strategy))
            self._downloads = Downloads(arrays, list(weights))
            self._sent_arrays = arrays
        self._sent = self._configured(inner, arrays, config, "train")
        self.recorder.sent()
        return self._sent

    def configure_evaluate(
        self, inner: Configure, number: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Sample reproducibly, and keep the messages."""
        self._number, self._grid = number + self.recorder.options.round_offset, grid
        self._sent = self._configured(inner, arrays, config, "evaluate")
        return self._sent

    def _configured(
        self, inner: Configure, arrays: ArrayRecord, config: ConfigRecord, purpose: str
    ) -> list[Message]:
        assert self._grid is not None  # set by both callers
        options, grid = self.recorder.options, self._grid
        with self.recorder.guarded("who holds which partition"):
            self.roster.update(grid)
        wait = self.wait(getattr(self._strategy, "min_available_nodes", None))

        def nodes(grid: Grid) -> list[int]:
            """Nodes, in stable order where asked; some may have come since the round began."""
            order = list(grid.get_node_ids())
            if options.reproducible_sampling:
                with self.recorder.guarded("who holds which partition"):
                    order[:] = self.roster.order(grid)
            wait.note(order)  # a strategy counts again and again until there are enough
            return order

        watched = OrderedGrid(grid, nodes)
        if not options.reproducible_sampling:
            return list(inner(self._number, arrays, config, watched))
        with seeded_sampling(options.seed, self.recorder.round, purpose):
            return list(inner(self._number, arrays, config, watched))

    def wait(self, wanted: int | None) -> NodeWait:
        """A new wait for this many nodes."""
        return NodeWait(self.recorder.options.node_timeout, wanted, lambda: self.roster.names)

    def _resumed(self, arrays: ArrayRecord) -> ArrayRecord:
        """At the start of a resumed run, the weights exactly as the strategy had returned them."""
        store, offset = self.recorder.store, self.recorder.options.round_offset
        if store is None or offset == 0 or self.recorder.round != offset + 1:
            return arrays
        record = store.read(offset)
        exact, given = as_returned(record.weights, record.state), self._weights(arrays)
        same = list(given) == list(exact) and all(
            values.tobytes() == record.weights[name].tobytes() for name, values in given.items()
        )
        if not same:
            if self.start_must_fit:
                raise PreflightError(
                    "resume=True: the strategy was started by another one around it, which would "
                    "go on from other weights; observe the outer one, observe(DP(...))"
                )
            return arrays  # somebody wants to go on from other weights
        return ArrayRecord(
            {name: Array(values) for name, values in zip(arrays, exact.values(), strict=True)}
        )

    def aggregate_train(
        self, inner: Aggregate, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Hand the usable replies to the strategy, sorted by client, and record the round."""
        received = list(replies)
        usable: list[Message] = []  # never what was not checked
        with self.recorder.guarded(f"the replies of round {self.recorder.round}"):
            usable = self._usable(received)
            self.recorder.check_some_left(self._raised())
        try:
            result = inner(self._number, usable)
        except Exception as error:
            self.recorder.failed(f"{type(error).__name__}: {error}")
            raise
        arrays, metrics = result
        with self.recorder.guarded(f"round {self.recorder.round}"):
            self.recorder.finish(
                None if arrays is None else self._weights(arrays),
                {} if metrics is None else metrics_of(metrics),
                strategy_state(self._strategy),
            )
        return result

    def _usable(self, received: list[Message]) -> list[Message]:
        """Good replies sorted by client, then errors, which some strategies count."""
        nodes = self._nodes()
        errors = [message for message in received if message.has_error()]
        if self.recorder.options.hidden_updates or self._hidden(received):
            read = ReplyReader(self.roster, weight_key(self._strategy)).read
            good = [message for message in received if not message.has_error()]
            good.sort(key=lambda message: client_order(self.roster.name(node_of(message, nodes))))
            came = {message.metadata.reply_to_message_id for message in received}
            hidden = [read(message, node_of(message, nodes)) for message in received]
            self.recorder.hide([*hidden, *self._lost(nodes, came)])
            return [*good, *errors]
        reader = ReplyReader(
            self.roster, weight_key(self._strategy), self._weights, len(self.recorder.before)
        )
        asked = {message.metadata.message_id: message for message in self._sent}
        known = [m.metadata.reply_to_message_id in asked for m in received]
        answered: set[str] = set()
        replies = []
        for message, is_known in zip(received, known, strict=True):
            to = message.metadata.reply_to_message_id
            reply = reader.read(message, node_of(message, nodes))
            if to in asked and self._downloads is not None:
                reply = with_start(reply, asked[to], self._downloads)
            if to in answered and to in asked:
                reply = Reply(reply.client, error=("duplicate", "it has answered already"))
            elif any(known) and not is_known:
                reply = Reply(reply.client, error=("stranger", "it answers no message of ours"))
            answered.add(to)
            replies.append(reply)
        judged = self.recorder.accept([*replies, *self._lost(nodes, answered)])
        return [*(with_metrics(received[i], judged.metrics) for i in judged.taken), *errors]

    def _lost(self, nodes: Mapping[str, int], answered: Collection[str]) -> list[Reply]:
        """What stands for each node that was asked and did not answer in time."""
        return [
            Reply(self.roster.name(node), error=("lost", "no reply in time"))
            for message_id, node in nodes.items()
            if message_id not in answered
        ]

    def _hidden(self, received: list[Message]) -> bool:
        """Whether all replies carry the very same new weights, as after secure aggregation."""
        whole = [m.content.array_records for m in received if not m.has_error()]
        if (
            len(whole) < 2
            or any(len(records) != 1 for records in whole)
            or self._sent_arrays is None
        ):
            return False
        first, *others = (
            {name: array.data for name, array in next(iter(records.values())).items()}
            for records in whole
        )
        sent = {name: array.data for name, array in self._sent_arrays.items()}
        return first != sent and all(other == first for other in others)

    def _raised(self) -> ClientError | None:
        """The first exception of this round, where the Grid runs clients in this process."""
        errors: Iterable[ClientError] = getattr(self._grid, "errors", ())
        return next((error for error in errors if error.round == self._number), None)

    def aggregate_evaluate(
        self, inner: Evaluate, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Hand the replies to the strategy, sorted by client, and keep the result."""
        ordered = list(replies)
        with self.recorder.guarded("who evaluated"):
            nodes = self._nodes()
            ordered.sort(key=lambda r: client_order(self.roster.name(node_of(r, nodes))))
        metrics = inner(self._number, ordered)
        if metrics is not None:
            with self.recorder.guarded(f"the evaluation of round {self.recorder.round}"):
                self.recorder.evaluated(metrics_of(metrics))
        return metrics

    def _nodes(self) -> dict[str, int]:
        """Node by id of the message sent to it; ids are given on sending."""
        return {sent.metadata.message_id: sent.metadata.dst_node_id for sent in self._sent}

    def named_weights(self, arrays: ArrayRecord) -> Weights:
        """Weights under the names that they are recorded under."""
        return self._weights(arrays)

    def _weights(self, arrays: ArrayRecord) -> Weights:
        """Copies by name: deserialising an Array makes a new one."""
        return self._names.of({name: decoded(array) for name, array in arrays.items()})
