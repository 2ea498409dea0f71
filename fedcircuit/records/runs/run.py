"""A run on disk as frames and arrays, during the run or any time later."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fedcircuit.circuits import CircuitStack
from fedcircuit.html import block, facts
from fedcircuit.records.files import Array, RunError, UnknownTableError, reading
from fedcircuit.records.rounds import Json, RoundRecord
from fedcircuit.records.runs import line_frames
from fedcircuit.records.runs.folder import LINES, RunFolder
from fedcircuit.records.runs.frames import NO_ROUND, Frames, frame_of, named_beside, table_hint
from fedcircuit.records.runs.layer_names import LayerNames
from fedcircuit.records.runs.side_files import (
    evidence_files,
    read_evaluations,
    read_evidence,
    read_partition,
)
from fedcircuit.records.runs.stored_circuits import stored_circuits

if TYPE_CHECKING:
    from fedcircuit.records.runs.looks import Look

__all__ = ["Run", "RunError", "UnknownTableError"]

CIRCUITS = "circuits"  # name of the observer whose arrays are circuits


class Run:
    """What a run had recorded when it was loaded, read only; make one with :meth:`load`.

    Files are read when something is asked of them. A run may still be growing: :meth:`refresh`
    takes in what came since.
    """

    def __init__(self, path: Path) -> None:
        self._folder = RunFolder(path)

    @classmethod
    def load(cls, path: Path | str) -> Run:
        """The run, or the look at one, in a folder, as far as it has come.

        Raises
        ------
        RunError
            If the folder is no run, is damaged, or is of a newer schema.
        """
        from fedcircuit.records.runs.looks import Look, is_look

        return (Look if is_look(Path(path)) else cls)(Path(path))

    def refresh(self) -> Run:
        """The same run with the rounds recorded since."""
        return type(self)(self.path)

    @property
    def looks(self) -> tuple[str, ...]:
        """Names of the later looks at the run, made by ``fedcircuit look``."""
        from fedcircuit.records.runs.looks import look_names

        return look_names(self.path)

    def look(self, name: str) -> Look:
        """A later look: a run with other tables and circuits of the same weights."""
        from fedcircuit.records.runs.looks import loaded_look

        return loaded_look(self.path, name)

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Seed, configuration, versions, thresholds: what the run says of itself."""
        return self._folder.manifest

    @property
    def name(self) -> str:
        """Name of the run; the folder's where the manifest has none."""
        return str(self.manifest.get("name") or self.path.resolve().name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by class index."""
        return tuple(self.manifest.get("class_names") or ())

    @property
    def rounds(self) -> tuple[int, ...]:
        """Recorded rounds from 1 on; round 0, the start, has weights alone."""
        return tuple(range(1, self._folder.n_rounds))

    @cached_property
    def _parts(self) -> tuple[Frames, list[dict[str, Json]]]:
        """Tables of all rounds, and their lines without them: read once, line by line."""
        frames, lines = Frames(), []
        for line in self._folder.lines():
            with self._reading(line["round"]):
                frames.add(line["round"], line.pop("observations"))
            lines.append(line)
        return frames, lines

    def _reading(self, number: int) -> AbstractContextManager[None]:
        return reading(self.path / LINES, f"line {number + 1} (round {number})")

    @property
    def n_unsealed(self) -> int:
        """Rounds without a digest, as earlier versions wrote them: damage to them may pass."""
        return self._folder.n_unsealed

    @property
    def table_names(self) -> tuple[str, ...]:
        """Names that :meth:`table` knows."""
        return self._parts[0].names

    def table(self, name: str) -> pd.DataFrame:
        """A table of all rounds, the column ``round`` first; an undefined number is NaN.

        A ``layer`` or ``site`` is called as people do (``conv1``, ``fc1``, or its own name), with
        the module path beside it in ``path``.

        Raises
        ------
        UnknownTableError
            If no round has such a table; the nearest name is given. It is a KeyError too.
        """
        if name not in self.table_names:
            failed = [] if self.table_names else sorted(set(self.observer_errors["observer"]))
            hint = table_hint(name, self.table_names, failed) if self._folder.n_rounds else NO_ROUND
            raise UnknownTableError(f"{self.path} has no table {name!r}; {hint}")
        with reading(self.path / LINES, f"table {name}"):
            return self.layer_names.named(self._parts[0].frame(name))

    @cached_property
    def layer_names(self) -> LayerNames:
        """What the layers are called in tables, figures and on the page."""
        frames = self._parts[0]
        known = [name for name in ("sites", f"{CIRCUITS}/sites") if name in frames.names]
        sites = frames.frame(known[0]) if known else None
        return LayerNames(sites, lambda: self.weights(0))

    @property
    def metrics(self) -> pd.DataFrame:
        """Aggregated metrics, one row a round."""
        return self._numbers("metrics")

    @property
    def seconds(self) -> pd.DataFrame:
        """Wall seconds, one row a round and one column a stage."""
        return self._numbers("seconds")

    def _numbers(self, key: str) -> pd.DataFrame:
        return line_frames.by_round(self._parts[1], key)

    @property
    def clients(self) -> pd.DataFrame:
        """Accepted replies: ``round``, ``client``, ``num_examples`` and the client's metrics.

        A metric that is called as one of these three stands under ``metrics.NAME``.
        """
        return line_frames.clients(self._parts[1])

    @property
    def failures(self) -> pd.DataFrame:
        """Replies set aside, models not measured: ``round``, ``client``, ``kind``, ``reason``."""
        return line_frames.failures(self._parts[1])

    @property
    def observer_errors(self) -> pd.DataFrame:
        """Observers that failed: ``round``, ``observer``, ``error``."""
        return line_frames.observer_errors(self._parts[1])

    @property
    def evaluations(self) -> pd.DataFrame:
        """Evaluations that came after their round, one row a round, one column a metric."""
        rows: dict[int, dict[str, object]] = {}
        for number, metrics in read_evaluations(self.path, self._folder.seal):
            if number < self._folder.n_rounds:
                row = rows.setdefault(number, {"round": number})
                row.update(named_beside(["round"], metrics))
        return frame_of([rows[number] for number in sorted(rows)], ["round"])

    @property
    def evidence(self) -> pd.DataFrame:
        """Rounds whose aggregation failed: ``round``, ``error``, ``file``; they never count."""
        rows = [
            {"round": record.round, "error": error, "file": str(file)}
            for file in evidence_files(self.path)
            for record, error in [read_evidence(file, self._folder.seal)]
        ]
        return frame_of(rows, ["round", "error", "file"])

    @property
    def partition(self) -> dict[str, Any] | None:
        """Who holds what; None where it was not written."""
        return read_partition(self.path, self._folder.seal)

    def clients_of(self, number: int) -> tuple[str, ...]:
        """Clients whose replies entered a round."""
        return tuple(client["client"] for client in self._folder.line(number)["clients"])

    def record(self, number: int) -> RoundRecord:
        """Everything recorded of a round."""
        return self._folder.record(number)

    def weights(self, number: int) -> dict[str, Array]:
        """Global weights after a round; those of round 0 are the start."""
        return self._folder.file(number).global_weights()

    def client_weights(self, number: int, client: str) -> dict[str, Array]:
        """Weights that a client sent in a round; exact unless the run keeps differences.

        Raises
        ------
        RunError
            If the client has no part in the round, or the run keeps no client weights.
        """
        self._check_kept(number, client)
        return self._folder.client_weights(number, client)

    def start_of(self, number: int, client: str) -> dict[str, Array]:
        """Weights that a client's training started from in a round.

        These are the global ones of the round before, but for what it received otherwise, as after
        a masked download.

        Raises
        ------
        RunError
            If the client has no part in the round, or the run keeps no client weights.
        """
        self._check_kept(number, client)
        return {**self.weights(number - 1), **self._folder.file(number).received(client)}

    def _check_kept(self, number: int, client: str) -> None:
        known = self.clients_of(number)
        if client not in known:
            raise RunError(
                f"{self.path}: client {client!r} has no part in round {number}; clients: "
                + (", ".join(known) or "none")
            )
        if self._folder.storage.updates == "none":
            raise RunError(f"{self.path} keeps no client weights: its storage.updates is none")

    def observed(self, number: int, observer: str) -> dict[str, Array]:
        """Arrays that an observer left in a round; empty where it left none."""
        return self._folder.file(number).observed(observer)

    def masks(self, number: int) -> CircuitStack | None:
        """Circuits of all models and classes in a round; None where none were looked for."""
        tables = self._folder.line(number)["observations"].get(CIRCUITS, {})
        arrays = self.observed(number, CIRCUITS)
        with self._reading(number):
            stack = stored_circuits(tables, arrays)
        return None if stack is None else replace(stack, sites=self.layer_names.called(stack.sites))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {len(self.rounds)} rounds)"

    def _repr_html_(self) -> str:
        """What a notebook shows: what the run is, and its latest metrics."""
        return block(self.name, facts(self.facts))

    @property
    def facts(self) -> dict[str, object]:
        """What the run is, in words and numbers."""
        last = self.rounds[-1] if self.rounds else None
        latest = self.metrics.tail(1).drop(columns="round").to_dict(orient="records")
        return {
            "folder": self.path,
            "rounds": len(self.rounds),
            "clients in the last round": 0 if last is None else len(self.clients_of(last)),
            "replies set aside": len(self.failures),
            "seed": self.manifest.get("seed"),
            "created": self.manifest.get("created"),
            "tables": ", ".join(self.table_names) or "none",
            **{f"{name} of round {last}": value for row in latest for name, value in row.items()},
        }
