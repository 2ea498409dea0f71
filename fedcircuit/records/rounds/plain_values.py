"""Plain values and tables as JSON, and back.

JSON has no NaN: a null among numbers is NaN, and infinities are the texts "Infinity" and
"-Infinity". A metric may also be a list of numbers, text (``{"text": ...}``) or bytes
(``{"base64": ...}``). A table lists its cells column by column, with the type of every column.
Where every cell of a column would be null, one null may stand for them all, as long as another
column tells the number of rows. The types:

- ``text``, ``int``, ``bool``: null is an absent cell (None);
- ``float``: null is NaN; measurements are kept to nine significant digits;
- ``null``: no cell has a value;
- ``any``: cells of several types, written as in a client's ``extra``: bytes are
  ``{"base64": ...}``, mappings ``{"object": ...}``, NaN and infinities ``{"float": ...}``.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import Any

import numpy as np

from fedcircuit.records.rounds.round_record import Cell, Metric, Table

Json = Any  # what json.loads returns

_KINDS: dict[type, str] = {
    type(None): "null", bool: "bool", int: "int", float: "float", str: "text",
}  # fmt: skip


def number_to_json(value: object) -> Json:
    """A number for JSON: NaN as null, infinities as text.

    Raises
    ------
    TypeError
        If it is no number.
    """
    value = _item(value)
    if value is None:
        return None
    if not isinstance(value, (bool, int, float)):
        raise TypeError(f"expected a number, got {value!r} of type {type(value).__name__}")
    if isinstance(value, float) and not isfinite(value):
        return None if isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def number_from_json(value: Json) -> float:
    """The number that :func:`number_to_json` wrote."""
    if value is None:
        return float("nan")
    return float(value) if isinstance(value, str) else value  # "Infinity" is one for float()


def metric_to_json(value: object) -> Json:
    """A metric for JSON: a number, a list of numbers, or text or bytes.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(value, str):
        return {"text": str(value)}
    if isinstance(value, (bytes, bytearray)):
        return value_to_json(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Sequence):
        return [number_to_json(item) for item in value]
    return number_to_json(value)


def metric_from_json(value: Json) -> Metric:
    """The metric that :func:`metric_to_json` wrote."""
    if isinstance(value, list):
        return [number_from_json(item) for item in value]
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        return str(content) if kind == "text" else base64.b64decode(content)
    return number_from_json(value)


def metrics_to_json(metrics: Mapping[str, Metric], where: str) -> dict[str, Json]:
    """Metrics by name for JSON.

    Raises
    ------
    TypeError
        If one cannot be written; it is named after ``where``.
    """
    result = {}
    for name, value in metrics.items():
        try:
            result[str(name)] = metric_to_json(value)
        except TypeError as error:
            raise TypeError(f"{where} {name!r}: {error}") from error
    return result


def metrics_from_json(metrics: Mapping[str, Json]) -> dict[str, Metric]:
    """Metrics by name, as they were recorded."""
    return {name: metric_from_json(value) for name, value in metrics.items()}


def value_to_json(value: object) -> Json:
    """A nested value of numbers, text, bytes, sequences and mappings for JSON, without loss.

    Raises
    ------
    TypeError
        If a value is of another type.
    """
    value = _item(value)
    if isinstance(value, float) and not isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"object": {str(key): value_to_json(item) for key, item in value.items()}}
    if isinstance(value, Sequence):
        return [value_to_json(item) for item in value]
    raise TypeError(
        f"cannot record {value!r} of type {type(value).__name__}; use numbers, text, bytes, or "
        "lists and mappings of them"
    )


def value_from_json(value: Json) -> Any:
    """The value that :func:`value_to_json` wrote; sequences come back as lists."""
    if isinstance(value, list):
        return [value_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "float":
        return float(content)
    if kind == "base64":
        return base64.b64decode(content)
    return {key: value_from_json(item) for key, item in content.items()}


def table_to_json(table: Table) -> dict[str, Json]:
    """Types and cells of a table, column by column.

    Raises
    ------
    ValueError
        If two columns have one name.
    TypeError
        If a cell is no plain value.
    """
    if len(set(table.columns)) != len(table.columns):
        raise ValueError(f"columns of a table must have different names, got {table.columns}")
    types: dict[str, str] = {}
    cells: dict[str, list[Json]] = {}
    for index, name in enumerate(table.columns):
        column = [_item(row[index]) for row in table.rows]
        types[name] = _column_type(name, column)
        if types[name] == "float":
            cells[name] = [_measured(cell) for cell in column]
        else:
            cells[name] = [value_to_json(cell) for cell in column]
    empty = {name for name, column in cells.items() if all(cell is None for cell in column)}
    if len(empty) == len(cells):  # only the lists tell the number of rows
        empty = set()
    short = {name: None if name in empty else column for name, column in cells.items()}
    return {"types": types, "cells": short}


def table_from_json(payload: Mapping[str, Json]) -> Table:
    """The table that :func:`table_to_json` wrote."""
    columns = [
        [cell_from_json(cell, payload["types"][name]) for cell in cells]
        for name, cells in column_cells(payload).items()
    ]
    return Table(tuple(payload["cells"]), tuple(zip(*columns, strict=True)))


def column_cells(payload: Mapping[str, Json]) -> dict[str, list[Json]]:
    """Cells of a written table by column; a null that stands for a whole column is repeated."""
    cells: Mapping[str, list[Json] | None] = payload["cells"]
    n_rows = max((len(column) for column in cells.values() if column is not None), default=0)
    return {name: [None] * n_rows if column is None else column for name, column in cells.items()}


def cell_from_json(cell: Json, column_type: str) -> Cell:
    """A cell of a column of the given type."""
    if column_type == "float":
        return number_from_json(cell)
    result: Cell = value_from_json(cell)
    return result


def _measured(cell: object) -> Json:
    """A measurement to nine significant digits, about what float32 holds."""
    number = number_to_json(cell)
    return float(f"{number:.9g}") if isinstance(number, float) else number


def _column_type(name: str, cells: Sequence[object]) -> str:
    kinds = set()
    for cell in cells:
        if type(cell) not in _KINDS:
            raise TypeError(
                f"column {name!r} holds {cell!r} of type {type(cell).__name__}; a cell is text, "
                "a number, a truth value or None"
            )
        kinds.add(_KINDS[type(cell)])
    some = kinds - {"null"}
    if "float" in some and some <= {"int", "float"}:
        return "float"
    return "null" if not some else some.pop() if len(some) == 1 else "any"


def _item(value: object) -> object:
    """A NumPy scalar as a plain value; subclasses of plain types as the plain type."""
    if type(value) in _KINDS:
        return value
    if isinstance(value, np.generic):
        return value.item()
    for plain in (int, float, str):
        if isinstance(value, plain) and not isinstance(value, bool):
            return plain(value)
    return value
