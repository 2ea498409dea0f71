"""Frames as plain JSON values: undefined is None, numbers to five significant decimals."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

DECIMALS = 5
Grid = dict[str, list[list[Any]]]  # by round as text: rows of plain cells


def plain(value: Any) -> Any:
    """One cell: numbers rounded, NaN, infinity and absent cells as None."""
    if value is None or value is pd.NA:
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return round(float(value), DECIMALS) if isfinite(value) else None
    return str(value)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as mappings from column to plain cell."""
    names = [str(name) for name in frame.columns]
    return [
        {name: plain(cell) for name, cell in zip(names, row, strict=True)}
        for row in frame.itertuples(index=False)
    ]


def grid(frame: pd.DataFrame, columns: Sequence[str], most_cells: int | None = None) -> Grid:
    """By round, rows of the named columns.

    Parameters
    ----------
    frame
        With a column ``round``.
    columns
        What a row holds.
    most_cells
        Only the newest rounds, as many as this many rows allow, but at least one; None is all.
    """
    result: Grid = {}
    left = len(frame) if most_cells is None else most_cells
    for number, rows in sorted(frame.groupby("round"), key=lambda item: -int(str(item[0]))):
        if result and len(rows) > left:
            break
        left -= len(rows)
        cells = rows[list(columns)].itertuples(index=False)
        result[str(number)] = [[plain(cell) for cell in row] for row in cells]
    return dict(reversed(list(result.items())))
