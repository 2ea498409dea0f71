"""Lets a NumPyClient app talk to message-based strategies: a client mod that renames records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from fedcircuit import messages
from fedcircuit.clients.identity import identity

CallNext = Callable[[Message, Context], Message]
_PREFIXES = {"train": ("fitins", "fitres"), "evaluate": ("evaluateins", "evaluateres")}


def numpyclient_mod(message: Message, context: Context, call_next: CallNext) -> Message:
    """Translate a message-based strategy's records to a NumPyClient's, and its answer back.

    Use it as ``ClientApp(client_fn=client_fn, mods=[numpyclient_mod])``; differential-privacy
    mods go before it in the list. Messages that already carry a NumPyClient's records, other
    message types and error replies pass untouched, so the same app serves legacy strategies too.
    An observing strategy's question which partition the client holds is answered.

    Raises
    ------
    ValueError
        If the message does not hold exactly one ArrayRecord and at most one ConfigRecord.
    """
    kind = message.metadata.message_type
    if kind == messages.IDENTITY_QUERY and messages.PARTITION_ID in context.node_config:
        said = RecordDict({messages.SIDE_CHANNEL: ConfigRecord(identity(context))})
        return Message(said, reply_to=message)
    prefixes = _PREFIXES.get(kind)
    if prefixes is None or f"{prefixes[0]}.parameters" in message.content.array_records:
        return call_next(message, context)
    incoming = message.content
    names = _names(incoming)
    message.content = _instructions(incoming, prefixes[0])
    try:
        reply = call_next(message, context)
    finally:
        message.content = incoming  # the strategy's records may be shared between clients
    if not reply.has_error():
        train = prefixes[1] == "fitres"
        reply.content = _answer(reply.content, prefixes[1], names if train else None)
    return reply


def _names(content: RecordDict) -> list[str]:
    if len(content.array_records) != 1 or len(content.config_records) > 1:
        raise ValueError(
            "expected one ArrayRecord and at most one ConfigRecord, got "
            f"{list(content.array_records)} and {list(content.config_records)}"
        )
    (arrays,) = content.array_records.values()
    return list(arrays)


def _instructions(content: RecordDict, prefix: str) -> RecordDict:
    (arrays,) = content.array_records.values()
    configs = list(content.config_records.values())
    numbered = {str(index): array for index, array in enumerate(arrays.values())}
    return RecordDict(
        {
            f"{prefix}.parameters": ArrayRecord(numbered),
            f"{prefix}.config": ConfigRecord(dict(configs[0].items()) if configs else {}),
        }
    )


def _answer(content: RecordDict, prefix: str, names: list[str] | None) -> RecordDict:
    answer = RecordDict()
    if names is not None:
        arrays = content.array_records[f"{prefix}.parameters"].values()
        # a NumPyClient's arrays come without dtype and shape: build them anew
        answer["arrays"] = ArrayRecord(
            {name: Array(array.numpy()) for name, array in zip(names, arrays, strict=True)}
        )
    counts = content.metric_records[f"{prefix}.num_examples"]
    metrics: dict[str, int | float | list[int] | list[float]] = {
        "num-examples": next(iter(counts.values()))
    }
    if names is None:
        metrics["loss"] = next(iter(content.metric_records[f"{prefix}.loss"].values()))
    extra: dict[str, Any] = {}
    for key, value in _items(content.config_records.get(f"{prefix}.metrics")).items():
        for_rules = key in messages.SIDE_KEYS  # and not to be averaged
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not for_rules:
            metrics[key] = value
        else:
            extra[key] = value
    answer["metrics"] = MetricRecord(metrics)
    if extra:
        answer["extra"] = ConfigRecord(extra)
    return answer


def _items(record: ConfigRecord | None) -> Mapping[str, object]:
    return {} if record is None else dict(record.items())
