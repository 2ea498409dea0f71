"""Flower's message-based strategies seen by a recorder: the only place that reads messages."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedcircuit import messages
from fedcircuit.strategies.recorder import Reply, RoundRecorder, client_order
from fedcircuit.strategies.state import strategy_state

Configure = Callable[[int, ArrayRecord, ConfigRecord, Grid], Iterable[Message]]
Aggregate = Callable[[int, Iterable[Message]], tuple[ArrayRecord | None, MetricRecord | None]]
Evaluate = Callable[[int, Iterable[Message]], MetricRecord | None]


class MessageHooks:
    """What is done before and after a message-based strategy's own methods."""

    def __init__(self, recorder: RoundRecorder) -> None:
        self.recorder = recorder
        self._clients: dict[int, str] = {}  # node id -> client
        self._asked = False
        self._sent: list[Message] = []

    def configure_train(
        self,
        strategy: object,
        inner: Configure,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
    ) -> list[Message]:
        """Note the weights sent, sample reproducibly, and keep the messages."""
        round_number = server_round + self.recorder.options.round_offset
        self.recorder.begin(round_number, _weights(arrays), strategy_state(strategy))
        self._identify(grid)
        self._sent = self._configured(inner, round_number, arrays, config, grid)
        return self._sent

    def configure_evaluate(
        self,
        inner: Configure,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
    ) -> list[Message]:
        """Sample reproducibly for evaluation."""
        round_number = server_round + self.recorder.options.round_offset
        return self._configured(inner, round_number, arrays, config, grid)

    def _configured(
        self,
        inner: Configure,
        round_number: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
    ) -> list[Message]:
        ordered = cast(Grid, OrderedGrid(grid, self._clients))
        state = random.getstate()  # strategies sample with the global generator
        random.seed(f"{self.recorder.options.seed}:{round_number}")
        try:
            return list(inner(round_number, arrays, config, ordered))
        finally:
            random.setstate(state)

    def aggregate_train(
        self, strategy: object, inner: Aggregate, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Hand the usable replies to the strategy, sorted by client, and record the round."""
        received = list(replies)
        accepted = self.recorder.accept(self._replies(received))
        try:
            result = inner(
                self.recorder.round, [received[i] for i in accepted if i < len(received)]
            )
        except Exception as error:
            self.recorder.failed(f"{type(error).__name__}: {error}")
            raise
        arrays, metrics = result
        self.recorder.finish(
            None if arrays is None else _weights(arrays),
            {} if metrics is None else _numbers(metrics),
            strategy_state(strategy),
        )
        return result

    def aggregate_evaluate(
        self, inner: Evaluate, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Keep the clients' evaluation beside the round."""
        ordered = sorted(replies, key=lambda reply: client_order(self._client_of(reply)))
        metrics = inner(self.recorder.round, ordered)
        if metrics is not None:
            self.recorder.evaluated(self.recorder.round, _numbers(metrics))
        return metrics

    def _identify(self, grid: Grid) -> None:
        """Ask every node once which partition it holds."""
        if self._asked or not self.recorder.options.identify:
            return
        self._asked = True
        questions = [
            Message(content=RecordDict(), dst_node_id=node, message_type=MessageType.QUERY)
            for node in grid.get_node_ids()
        ]
        for reply in grid.send_and_receive(questions):
            if not reply.has_error() and messages.SIDE_CHANNEL in reply.content.config_records:
                said = reply.content.config_records[messages.SIDE_CHANNEL]
                self._clients[reply.metadata.src_node_id] = str(said[messages.PARTITION_ID])

    def _node_of(self, reply: Message) -> int:
        """The node a reply stands for; where the SuperLink wrote the error, its source is not."""
        sent = {m.metadata.message_id: m.metadata.dst_node_id for m in self._sent}
        answered = reply.metadata.reply_to_message_id
        return int(sent.get(answered, reply.metadata.src_node_id))

    def _client_of(self, reply: Message) -> str:
        node = self._node_of(reply)
        return self._clients.get(node, f"node-{node}")

    def _replies(self, received: list[Message]) -> list[Reply]:
        """One entry for every reply, in order, and one for every message without any."""
        found = [self._reply(message) for message in received]
        answered = {message.metadata.reply_to_message_id for message in received}
        for message in self._sent:
            if message.metadata.message_id not in answered:
                node = message.metadata.dst_node_id
                client = self._clients.get(node, f"node-{node}")
                found.append(Reply(client, error=("lost", "no reply before the time-out")))
        return found

    def _reply(self, message: Message) -> Reply:
        node = self._node_of(message)
        if message.has_error():
            error = ("error", f"{message.error.reason} (code {message.error.code})")
            return Reply(self._client_of(message), error=error)
        content = message.content
        extra: dict[str, object] = {}
        for name, record in content.config_records.items():
            extra.update(dict(record.items()))
            if name == messages.SIDE_CHANNEL and messages.PARTITION_ID in record:
                self._clients[node] = str(record[messages.PARTITION_ID])
        client = self._client_of(message)
        if len(content.array_records) != 1 or len(content.metric_records) != 1:
            found = f"{list(content.array_records)} and {list(content.metric_records)}"
            reason = f"expected one ArrayRecord and one MetricRecord, got {found}"
            return Reply(client, error=("names", reason))
        (arrays,) = content.array_records.values()
        (metrics,) = content.metric_records.values()
        numbers = _numbers(metrics)
        return Reply(
            client=client,
            num_examples=numbers.pop("num-examples", float("nan")),
            weights=_weights(arrays),
            metrics=numbers,
            extra=extra,
        )


class OrderedGrid:
    """A Grid whose nodes come in a stable order: by client, else as they registered."""

    def __init__(self, grid: Grid, clients: dict[int, str]) -> None:
        self._grid, self._clients = grid, clients

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def get_node_ids(self) -> list[int]:
        """Node ids in stable order."""
        registered = {node.node_id: node.registered_at for node in self._grid.get_nodes()}

        def order(node: int) -> tuple[tuple[int, int, str], str, int]:
            client = self._clients.get(node)
            known = (2, 0, "") if client is None else client_order(client)
            return known, str(registered.get(node, "")), node

        return sorted(self._grid.get_node_ids(), key=order)


def _weights(arrays: ArrayRecord) -> dict[str, Any]:
    """Copies: deserialising an Array makes a new one."""
    return {name: array.numpy() for name, array in arrays.items()}


def _numbers(metrics: MetricRecord) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
