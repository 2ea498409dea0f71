"""One round as a safetensors file and a line of JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from fedcircuit.learning.weights import Weights
from fedcircuit.records.codec import Array, Packed, pack, unpack
from fedcircuit.records.jsonl import failures_of, tables_of
from fedcircuit.records.round_record import ClientRecord, Observation, RoundRecord


@dataclass(frozen=True)
class Storage:
    """What a run keeps of the clients' weights, and whether unit scores are kept.

    ``full`` is exact. ``delta-fp16`` keeps the difference to the weights sent, in half precision
    (about three digits): a client's weights are then close to, not equal to, what it sent.
    ``none`` keeps no client weights.
    """

    updates: Literal["full", "delta-fp16", "none"] = "full"
    scores: bool = False


def encode_round(record: RoundRecord, storage: Storage, before: Weights | None) -> bytes:
    """The arrays of a round as the bytes of a safetensors file."""
    packed = Packed()
    pack(record.weights, packed, prefix="global/")
    pack(record.state, packed, prefix="state/")
    for client in record.clients:
        prefix = f"client/{client.client}/"
        if storage.updates == "full":
            pack(client.weights, packed, prefix=prefix)
        elif storage.updates == "delta-fp16":
            if before is None:
                raise ValueError("delta-fp16 needs the weights that the round started from")
            pack(_deltas(client.weights, before), packed, prefix=prefix)
        binary = {
            name: np.frombuffer(value, dtype=np.uint8)
            for name, value in client.extra.items()
            if isinstance(value, bytes)
        }
        pack(binary, packed, prefix=f"extra/{client.client}/")
    for name, observation in record.observations.items():
        arrays = {
            key: values
            for key, values in observation.arrays.items()
            if storage.scores or key != "scores"
        }
        pack(arrays, packed, prefix=f"observed/{name}/")
    metadata = {"round": str(record.round), "updates": storage.updates, **packed.metadata()}
    return save({name: np.asarray(v) for name, v in packed.tensors.items()}, metadata)


def _deltas(weights: Weights, before: Weights) -> dict[str, Array]:
    return {
        name: np.subtract(values, before[name]).astype(np.float16)
        if np.issubdtype(values.dtype, np.floating)
        else values
        for name, values in weights.items()
    }


class RoundFile:
    """The arrays of one round on disk, read when asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with safe_open(str(path), framework="numpy") as file:
            self._metadata: Mapping[str, str] = file.metadata()
            self._keys = tuple(file.keys())

    @property
    def updates(self) -> str:
        """Storage policy the file was written under."""
        return self._metadata["updates"]

    def read(self, prefix: str) -> dict[str, Array]:
        """Arrays under a prefix such as ``global/`` or ``client/3/``."""
        with safe_open(str(self._path), framework="numpy") as file:
            found = {key: file.get_tensor(key) for key in self._keys if key.startswith(prefix)}
        return unpack(found, self._metadata, prefix=prefix)

    def client_weights(self, client: str, before: Weights | None) -> dict[str, Array]:
        """A client's weights; from differences, the weights sent plus the difference."""
        stored = self.read(f"client/{client}/")
        if self.updates != "delta-fp16" or before is None:
            return stored
        return {
            name: np.add(before[name], values.astype(before[name].dtype))
            if values.dtype == np.float16
            else values
            for name, values in stored.items()
        }


def decode_round(line: Mapping[str, Any], file: RoundFile, before: Weights | None) -> RoundRecord:
    """The record that a line and its file hold."""
    clients = tuple(
        ClientRecord(
            client=raw["client"],
            num_examples=raw["num_examples"],
            weights=file.client_weights(raw["client"], before),
            metrics=raw["metrics"],
            extra={
                **raw["extra"],
                **{
                    name: values.tobytes()
                    for name, values in file.read(f"extra/{raw['client']}/").items()
                },
            },
        )
        for raw in line["clients"]
    )
    observations = {
        name: Observation(tables, file.read(f"observed/{name}/"))
        for name, tables in tables_of(line).items()
    }
    return RoundRecord(
        round=line["round"],
        weights=file.read("global/"),
        clients=clients,
        metrics=line["metrics"],
        observations=observations,
        failures=failures_of(line),
        observer_errors=line["observer_errors"],
        seconds=line["seconds"],
        state=file.read("state/"),
    )
