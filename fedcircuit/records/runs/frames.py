"""Tables of many rounds as typed pandas frames, gathered line by line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcircuit.records.rounds import Json, cell_from_json, column_cells

NO_ROUND = "no round is recorded yet"

_Column = tuple[str, NDArray[Any]]  # type of the cells, and the cells of one round


class Frames:
    """Collects the tables of rounds and joins each over all rounds."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], list[tuple[int, int, dict[str, _Column]]]] = {}

    def add(self, number: int, observations: Mapping[str, Mapping[str, Json]]) -> None:
        """Take the tables of a round, by observer and name, as they stand in its line."""
        for observer, tables in observations.items():
            for name, table in tables.items():
                columns = {
                    column: _column(cells, table["types"][column])
                    for column, cells in column_cells(table).items()
                }
                n_rows = max((len(cells) for _, cells in columns.values()), default=0)
                self._tables.setdefault((observer, name), []).append((number, n_rows, columns))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tables; ``OBSERVER/NAME`` where two observers use one name."""
        return tuple(self._keys())

    def frame(self, name: str) -> pd.DataFrame:
        """A table over all rounds; the column ``round`` comes first."""
        pieces = self._tables[self._keys()[name]]
        numbers = [np.full(n_rows, number, dtype=np.int64) for number, n_rows, _ in pieces]
        data: dict[str, Any] = {"round": np.concatenate(numbers)}
        for column in dict.fromkeys(name for *_, columns in pieces for name in columns):
            data[column] = _joined(
                [columns.get(column, _column([None] * n, "null")) for _, n, columns in pieces]
            )
        return pd.DataFrame(data)

    def _keys(self) -> dict[str, tuple[str, str]]:
        names = [name for _, name in self._tables]
        return {
            name if names.count(name) == 1 else f"{observer}/{name}": (observer, name)
            for observer, name in self._tables
        }


def _column(cells: Sequence[Json], column_type: str) -> _Column:
    """Cells of one round; numbers with an absent one among them become float, with NaN."""
    absent = any(cell is None for cell in cells)
    if column_type == "float" or (column_type == "int" and absent):
        values = [cell_from_json(cell, "float") for cell in cells]
        return "float", np.array(values, dtype=np.float64)
    if column_type == "int" and all(-(2**63) <= cell < 2**63 for cell in cells):
        return "int", np.array(cells, dtype=np.int64)
    if column_type == "bool" and not absent:
        return "bool", np.array(cells, dtype=np.bool_)
    array = np.empty(len(cells), dtype=object)
    array[:] = [cell_from_json(cell, column_type) for cell in cells]
    return ("any" if column_type == "int" else column_type), array  # no int64 holds these


def _joined(pieces: Iterable[_Column]) -> Any:
    """The cells of all rounds in the narrowest type that holds them."""
    pieces = [piece for piece in pieces if len(piece[1])]
    kinds = {kind for kind, _ in pieces}
    if kinds & {"int", "float"} and kinds <= {"int", "float", "null"}:
        dtype = np.int64 if kinds == {"int"} else np.float64
        return np.concatenate([cells.astype(dtype) for _, cells in pieces])  # None becomes NaN
    cells = [cell for _, cells in pieces for cell in cells.tolist()]
    return pd.Series(cells, dtype=None if cells else object)  # pandas finds text and truth values


def named_beside(columns: Sequence[str], metrics: Mapping[str, object]) -> dict[str, object]:
    """Metrics as columns beside ours: one that has the name of ours becomes ``metrics.NAME``."""
    named = {name: value for name, value in metrics.items() if name not in columns}
    for name in [name for name in metrics if name in columns]:
        free = f"metrics.{name}"
        while free in named:
            free = f"metrics.{free}"
        named[free] = metrics[name]
    return named


def frame_of(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """A frame of rows of plain values whose first columns are given, ``round`` as int64."""
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    frame = pd.DataFrame([[row.get(name) for name in names] for row in rows], columns=names)
    return frame.astype({"round": np.int64})


def table_hint(name: str, known: Sequence[str], failed: Sequence[str] = ()) -> str:
    """What to ask for in place of a table that there is not; ``failed`` are observers."""
    if failed:
        return f"the observers {', '.join(failed)} failed: see run.observer_errors"
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"it has {', '.join(known) or 'no tables: nothing observed its rounds'}"
