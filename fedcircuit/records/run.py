"""A run on disk as tables and arrays, during the run or any time later."""

from __future__ import annotations

import difflib
import html
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fedcircuit.circuits.circuit import CircuitStack, Site, site_slices
from fedcircuit.records.codec import Array
from fedcircuit.records.rounds import RoundFile
from fedcircuit.records.store import (
    EVALUATIONS,
    LINES,
    RunError,
    read_lines,
    read_manifest,
    round_path,
)

CIRCUITS = "circuits"  # name of the observer whose arrays are circuits


class Run:
    """What a run recorded, read only; make one with :meth:`load`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        self._lines = {line["round"]: line for line in read_lines(path / LINES)}

    @classmethod
    def load(cls, path: Path | str) -> Run:
        """The run in a folder, as far as it has come.

        Raises
        ------
        RunError
            If the folder is no run, or of a newer schema.
        """
        return cls(Path(path))

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.manifest["name"])

    @property
    def rounds(self) -> tuple[int, ...]:
        """Recorded rounds from 1 on, in order."""
        return tuple(sorted(number for number in self._lines if number > 0))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by class index."""
        return tuple(self.manifest["class_names"])

    @cached_property
    def table_names(self) -> tuple[str, ...]:
        """Names that :meth:`table` knows."""
        names: dict[str, None] = {}
        for line in self._lines.values():
            for tables in line["observations"].values():
                names.update(dict.fromkeys(tables))
        return tuple(names)

    def table(self, name: str) -> pd.DataFrame:
        """All rounds of a table, with the integer column ``round`` first; undefined is NaN.

        Raises
        ------
        KeyError
            If no round has such a table; the nearest name is given.
        """
        if name not in self.table_names:
            near = difflib.get_close_matches(name, self.table_names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {self.table_names}"
            raise KeyError(f"run {self.path} has no table {name!r}; {hint}")
        columns: list[str] = []
        rows: list[list[Any]] = []
        for number in sorted(self._lines):
            for tables in self._lines[number]["observations"].values():
                if name in tables:
                    columns = tables[name]["columns"]
                    rows += [[number, *row] for row in tables[name]["rows"]]
        return _frame(rows, ["round", *columns])

    @property
    def metrics(self) -> pd.DataFrame:
        """Aggregated metrics, one row a round."""
        return _frame_of([{"round": n, **self._lines[n]["metrics"]} for n in self.rounds])

    @property
    def seconds(self) -> pd.DataFrame:
        """Wall seconds by stage, one row a round."""
        return _frame_of([{"round": n, **self._lines[n]["seconds"]} for n in self.rounds])

    @property
    def evaluations(self) -> pd.DataFrame:
        """The clients' own evaluation, one row a round."""
        lines = read_lines(self.path / EVALUATIONS)
        return _frame_of([{"round": line["round"], **line["metrics"]} for line in lines])

    @property
    def clients(self) -> pd.DataFrame:
        """Accepted replies: round, client, num_examples and the client's metrics."""
        return _frame_of(
            [
                {
                    "round": n,
                    "client": client["client"],
                    "num_examples": client["num_examples"],
                    **client["metrics"],
                }
                for n in self.rounds
                for client in self._lines[n]["clients"]
            ]
        )

    @property
    def failures(self) -> pd.DataFrame:
        """Replies set aside: round, client, kind, reason."""
        rows = [[n, *failure] for n in self.rounds for failure in self._lines[n]["failures"]]
        return _frame(rows, ["round", "client", "kind", "reason"])

    @property
    def observer_errors(self) -> pd.DataFrame:
        """Observers that failed: round, observer, error."""
        rows = [
            [n, name, error]
            for n in self.rounds
            for name, error in self._lines[n]["observer_errors"].items()
        ]
        return _frame(rows, ["round", "observer", "error"])

    @cached_property
    def partition(self) -> dict[str, Any] | None:
        """Who holds what; None where it was not written."""
        path = self.path / "partition.json"
        if not path.exists():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def file(self, round_number: int) -> RoundFile:
        """The arrays of a recorded round.

        Raises
        ------
        RunError
            If the round is not recorded.
        """
        if round_number not in self._lines:
            raise RunError(f"{self.path} has no round {round_number}; it has {self.rounds}")
        return RoundFile(round_path(self.path, round_number))

    def weights(self, round_number: int) -> dict[str, Array]:
        """Global weights after a round; 0 is the start."""
        return self.file(round_number).read("global/")

    def client_weights(self, round_number: int, client: str) -> dict[str, Array]:
        """Weights that a client sent in a round.

        Raises
        ------
        RunError
            If the client's weights of that round are not stored.
        """
        file = self.file(round_number)
        before = self.weights(round_number - 1) if file.updates == "delta-fp16" else None
        weights = file.client_weights(client, before)
        if not weights:
            raise RunError(
                f"{self.path} keeps no weights of client {client} in round {round_number} "
                f"(storage.updates is {file.updates})"
            )
        return weights

    def observed(self, round_number: int, observer: str) -> dict[str, Array]:
        """Arrays that an observer left in a round; empty where it left none."""
        return self.file(round_number).read(f"observed/{observer}/")

    def masks(self, round_number: int) -> CircuitStack | None:
        """Circuits of all models and classes in a round; None where none were looked for."""
        arrays = self.observed(round_number, CIRCUITS)
        tables = self._lines[round_number]["observations"].get(CIRCUITS, {})
        if "masks" not in arrays or "sites" not in tables:
            return None
        sites = _sites(tables["sites"])
        n_units = site_slices(sites)[-1].stop
        bits = np.unpackbits(arrays["masks"].astype(np.uint8), axis=-1, count=n_units)
        column = tables["models"]["columns"].index("model")
        return CircuitStack(
            sites=sites,
            models=tuple(str(row[column]) for row in tables["models"]["rows"]),
            masks=torch.from_numpy(bits.astype(np.bool_)),
            found=torch.from_numpy(arrays["found"].astype(np.bool_)),
        )

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {len(self.rounds)} rounds)"

    def _repr_html_(self) -> str:
        """What a notebook shows: name, rounds, and the latest metrics."""
        tables = ", ".join(self.table_names) or "none"
        latest = self.metrics.tail(5)._repr_html_() if self.rounds else ""
        return (
            f"<p><b>{html.escape(self.name)}</b>: {len(self.rounds)} rounds in "
            f"<code>{html.escape(str(self.path))}</code>; tables: {html.escape(tables)}</p>"
            f"{latest}"
        )


def _sites(table: dict[str, Any]) -> tuple[Site, ...]:
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return tuple(
        Site(row["site"], row["n_units"], row.get("axis", 1), row.get("output", row["site"]))
        for row in rows
    )


def _frame(rows: list[list[Any]], columns: list[str]) -> pd.DataFrame:
    """A frame whose all-number columns are numeric, with None as NaN."""
    return _typed(pd.DataFrame(rows, columns=pd.Index(columns)))


def _frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return _typed(pd.DataFrame(rows if rows else {"round": []}))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    for name in frame.columns:
        values = [value for value in frame[name] if value is not None and value == value]
        number = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        if number and (values or name == "round"):
            frame[name] = pd.to_numeric(frame[name])
            if name == "round":
                frame[name] = frame[name].astype("int64")
    return frame
