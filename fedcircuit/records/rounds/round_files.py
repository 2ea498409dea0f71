"""One round as a line of JSON and a safetensors file, and back.

Groups of the file (see ``codec``): ``global``, ``state``, ``clients/ID``, ``received/ID`` and
``observations/OBSERVER``, with ID and OBSERVER percent-encoded, so that any name will do.
The metadata name under ``differences``, by group, the tensors that are differences to the global
weights of the round before; and under ``received``, by client, the group of what it started from
where that were others than the global weights: several clients may share one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

from fedcircuit.learning import Weights
from fedcircuit.records.files import Array, Arrays, TensorFile, reading, to_bytes
from fedcircuit.records.rounds.client_weights import Storage, kept_updates, restored
from fedcircuit.records.rounds.plain_values import Json
from fedcircuit.records.rounds.round_lines import record_from_json
from fedcircuit.records.rounds.round_record import Observation, RoundRecord

__all__ = ["RoundFile", "Storage", "round_bytes", "round_from"]

FORMAT = "round-1"


def client_group(client: str) -> str:
    """Group of a client's weights."""
    return f"clients/{quote(client, safe='')}"


def received_group(client: str) -> str:
    """Group of the tensors that a client received otherwise than in the global weights."""
    return f"received/{quote(client, safe='')}"


def observation_group(observer: str) -> str:
    """Group of the arrays that an observer left."""
    return f"observations/{quote(observer, safe='')}"


def round_bytes(record: RoundRecord, storage: Storage, sent: Weights | None) -> bytes:
    """The arrays of a round as a safetensors file.

    Parameters
    ----------
    record
        The round.
    storage
        What is kept of it.
    sent
        Global weights that the round started from, where they are recorded.

    Raises
    ------
    ValueError
        If two clients have one identity.
    """
    groups: dict[str, Arrays] = {"global": record.weights, "state": record.state}
    differing: dict[str, tuple[str, ...]] = {}
    for client in record.clients:
        group = client_group(client.client)
        if group in groups:
            raise ValueError(
                f"round {record.round} has two clients {client.client!r}; every client needs an "
                "identity of its own"
            )
        groups[group], names = kept_updates(client.weights, sent, storage.updates)
        if names:
            differing[group] = names
    received = {} if storage.updates == "none" else _received(record, groups)
    for observer, observation in record.observations.items():
        groups[observation_group(observer)] = {
            name: values
            for name, values in observation.arrays.items()
            if storage.scores or name != "scores"
        }
    notes = {"format": FORMAT, "round": record.round, "differences": differing}
    return to_bytes(groups, {**notes, "received": received} if received else notes)


def _received(record: RoundRecord, groups: dict[str, Arrays]) -> dict[str, str]:
    """Add what clients received to the groups, each download once; by client, its group."""
    known: dict[tuple[int, ...], str] = {}  # by the identities of the arrays, all alive here
    of_clients = {}
    for client in record.clients:
        if client.received:
            key = tuple(id(values) for values in client.received.values())
            group = known.setdefault(key, received_group(client.client))
            groups[group] = client.received
            of_clients[client.client] = group
    return of_clients


class RoundFile:
    """The arrays of one round on disk, read when asked for.

    Raises
    ------
    RunError
        If the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        with reading(path):
            self._tensors = TensorFile(path)
            differing: dict[str, list[str]] = self._tensors.notes["differences"]
            self._differing = {group: frozenset(names) for group, names in differing.items()}
            self._received: dict[str, str] = dict(self._tensors.notes.get("received", {}))

    def _read(self, group: str) -> dict[str, Array]:
        with reading(self._tensors.path):
            return self._tensors.read(group)

    @property
    def has_differences(self) -> bool:
        """True if the global weights of the round before are needed to read the clients'."""
        return bool(self._differing)

    @property
    def clients(self) -> tuple[str, ...]:
        """Clients whose weights the file holds."""
        groups = (group.partition("/") for group in self._tensors.groups)
        return tuple(unquote(name) for kind, _, name in groups if kind == "clients")

    def global_weights(self) -> dict[str, Array]:
        """Global weights after the round."""
        return self._read("global")

    def state(self) -> dict[str, Array]:
        """The strategy's state after the round."""
        return self._read("state")

    def client_weights(self, client: str, sent: Weights | None) -> dict[str, Array]:
        """Weights of a client; empty where none are kept.

        Parameters
        ----------
        client
            Its identity.
        sent
            Global weights of the round before, where differences are stored.
        """
        group = client_group(client)
        stored = self._read(group)
        if group not in self._differing:
            return stored
        if sent is None:
            raise ValueError(f"{self._tensors.path} holds differences to the round before")
        with reading(self._tensors.path, group):
            return restored(stored, self._differing[group], sent)

    def received(self, client: str) -> dict[str, Array]:
        """Tensors that a client received otherwise than in the global weights; mostly none."""
        group = self._received.get(client)
        return {} if group is None else self._read(group)

    def observed(self, observer: str) -> dict[str, Array]:
        """Arrays that an observer left; empty where it left none."""
        return self._read(observation_group(observer))


def round_from(line: Mapping[str, Json], file: RoundFile, sent: Weights | None) -> RoundRecord:
    """The record that a line and its file hold; ``sent`` as in :meth:`RoundFile.client_weights`."""
    record = record_from_json(line)
    return replace(
        record,
        weights=file.global_weights(),
        state=file.state(),
        clients=tuple(
            replace(
                client,
                weights=file.client_weights(client.client, sent),
                received=file.received(client.client),
            )
            for client in record.clients
        ),
        observations={
            name: Observation(observation.tables, file.observed(name))
            for name, observation in record.observations.items()
        },
    )
