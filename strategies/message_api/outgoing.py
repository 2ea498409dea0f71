"""Messages to clients, changed by a strategy around another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fedcircuit.learning import Weights
from fedcircuit.wire import array_fields

ConfigEntry = int | float | str | bytes | bool | list[str]


def put_in(
    sent: Iterable[Message], names: Iterable[str], changed: Weights, said: Mapping[str, ConfigEntry]
) -> None:
    """Change messages in place: some of their weights, and what their config says.

    The config is a copy, as strategies keep one for all rounds.
    """
    whole = list(names)
    new = {name: Array(**array_fields(values)) for name, values in changed.items()}
    known: dict[int, RecordDict] = {}  # messages of a round share their content
    for message in sent:
        content = message.content
        if id(content) not in known:
            records = RecordDict(dict(content.items()))
            for key, record in content.array_records.items():
                if list(record) == whole and new:
                    records[key] = replaced(record, new)
            key = next(iter(content.config_records), "config")
            config = content.config_records.get(key, ConfigRecord()).copy()
            config.update(said)
            records[key] = config
            known[id(content)] = records
        message.content = known[id(content)]


def replaced(record: ArrayRecord, new: dict[str, Array]) -> ArrayRecord:
    """The same Arrays but for some of them; the constructor would copy all."""
    result = ArrayRecord()
    for name, array in record.items():
        result[name] = new.get(name, array)
    return result
