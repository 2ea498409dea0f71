"""Replies of the message API as plain values: each is read by itself, and costs no other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from copy import copy
from dataclasses import dataclass, replace

from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict

from fedcircuit import messages
from fedcircuit.learning import Weights
from fedcircuit.records.files import in_short
from fedcircuit.records.rounds import Metric
from fedcircuit.strategies.message_api.sent_weights import Downloads
from fedcircuit.strategies.nodes import Roster
from fedcircuit.strategies.replies import Reply, kept_extra, kept_metrics, readable, short

CLIENT_RAISED = 2  # Flower's error code for an exception in the ClientApp


@dataclass(frozen=True)
class ReplyReader:
    """Reads the replies of a round.

    Parameters
    ----------
    roster
        Who is on which node; it learns from what replies say.
    weight_key
        The metric that weighs clients.
    weights
        From an ArrayRecord to named weights; None where they are hidden from the server.
    n_weights
        How many the model has, to tell them from other ArrayRecords.
    """

    roster: Roster
    weight_key: str
    weights: Callable[[ArrayRecord], Weights] | None = None
    n_weights: int = 0

    def read(self, message: Message, node: int) -> Reply:
        """A reply as plain values, or why it cannot be read."""
        if message.has_error():
            return Reply(self.roster.name(node), error=("error", _reason(message.error)))
        try:
            self.roster.learn(node, message.content)
        except ValueError as error:
            return Reply(self.roster.name(node), error=("identity", short(str(error))))
        self.roster.settle(node)
        try:
            return self._read(message, self.roster.name(node))
        except Exception as error:  # noqa: BLE001  # whatever a client has sent
            return Reply(self.roster.name(node), error=("unreadable", short(in_short(error))))

    def _read(self, message: Message, client: str) -> Reply:
        records = list(message.content.values())
        arrays = [record for record in records if isinstance(record, ArrayRecord)]
        whole = [one for one in arrays if len(arrays) == 1 or len(one) == self.n_weights]
        counted = [record for record in records if isinstance(record, MetricRecord)]
        if self.weights is not None and (len(whole) != 1 or len(counted) != 1):
            found = f"{len(arrays)} and {len(counted)} in {list(message.content)}"
            reason = f"expected one ArrayRecord and one MetricRecord, got {found}"
            return Reply(client, error=("names", short(reason)))
        said = counted[0] if counted else MetricRecord()
        reported = metrics_of(said)
        count = reported.pop(self.weight_key, float("nan"))
        metrics, extra = kept_metrics(reported, kept_extra(_beside(message, said)))
        return Reply(
            client,
            num_examples=count if isinstance(count, (int, float)) else float("nan"),
            weights={} if self.weights is None else self.weights(whole[0]),
            metrics=metrics,
            extra=extra,
            form=frozenset((name, _length(value)) for name, value in said.items()),
        )


def with_start(reply: Reply, asked: Message, downloads: Downloads) -> Reply:
    """The reply with what its client was sent otherwise than in the global weights."""
    if reply.error is not None:
        return reply
    extra = {key: v for key, v in reply.extra.items() if key != messages.LIPS_KEPT}
    try:
        received = downloads.received(asked, reply.extra)
    except (LookupError, TypeError, ValueError) as error:  # costs this part alone
        word = f"cannot be read: {short(in_short(error))}"
        return replace(reply, extra={**extra, messages.LIPS_KEPT: word})
    return replace(reply, received=received, extra=extra)


def with_metrics(reply: Message, names: Collection[str] | None) -> Message:
    """The reply with these metrics alone; None: as it came."""
    if names is None:
        return reply
    records = {
        title: MetricRecord({name: value for name, value in record.items() if name in names})
        if isinstance(record, MetricRecord)
        else record
        for title, record in reply.content.items()
    }
    handed = copy(reply)
    handed.content = RecordDict(records)
    return handed


def node_of(reply: Message, nodes: Mapping[str, int]) -> int:
    """The node a reply stands for; where the SuperLink wrote the error, its source is not."""
    return nodes.get(reply.metadata.reply_to_message_id, reply.metadata.src_node_id)


def weight_key(strategy: object) -> str:
    """The metric that weighs clients, of the strategy or of the one it wraps."""
    inner = getattr(strategy, "strategy", None)
    key = getattr(strategy, "weighted_by_key", None)
    if key is None and inner is not None:
        return weight_key(inner)
    return "num-examples" if key is None else str(key)


def metrics_of(metrics: MetricRecord) -> dict[str, Metric]:
    """Numbers, and lists of numbers, as they came."""
    return dict(metrics.items())


def _beside(message: Message, said: MetricRecord) -> dict[str, object]:
    """What a reply says beside weights and metrics, by name.

    Where two records use one name, the later ones stand under ``RECORD/NAME``.
    """
    entries: dict[str, object] = {}
    for title, record in message.content.items():
        if isinstance(record, ArrayRecord) or record is said:
            continue
        for name, value in record.items():
            entries[name if name not in entries else f"{title}/{name}"] = value
    return entries


def _reason(error: Error) -> str:
    """What went wrong, in short; Flower's code where the client's own code did not raise."""
    words = short(readable(error.reason or "no reason given"))
    return words if error.code == CLIENT_RAISED else f"{words} (Flower's error code {error.code})"


def _length(value: object) -> int:
    """0 for a single number, one more than the length of a list."""
    return len(value) + 1 if isinstance(value, list) else 0
