"""What readers of files hand over: labels, a way to the inputs, names and statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Array = NDArray[Any]  # of any kind of number, or of text
Inputs = Callable[[Rows], Sequence[Array] | Array]


def row_of(part: str) -> Callable[[int], str]:
    """How the rows of a split are named where nothing better is known."""
    return lambda row: f"{part} row {row}"


@dataclass(frozen=True)
class RawSplit:
    """One split as read.

    Parameters
    ----------
    labels
        ``[n]``, classes from 0.
    inputs
        From positions ``[m]`` to m arrays: images ``[h, w, c]`` or rows of numbers ``[f]``. Whole
        pixels (uint8, uint16) are shares of the largest value; floats are taken as they are.
    where
        File and row of a position, counted from 0, for messages.
    columns
        Further columns ``[n]`` by name.
    """

    labels: Rows
    inputs: Inputs
    where: Callable[[int], str] = field(default_factory=lambda: row_of("a split's"))
    columns: Mapping[str, Array] = field(default_factory=dict)

    def take(self, rows: Rows) -> RawSplit:
        """The samples at these positions."""
        return RawSplit(
            self.labels[rows],
            lambda index: self.inputs(rows[index]),
            lambda row: self.where(int(rows[row])),
            {name: values[rows] for name, values in self.columns.items()},
        )


@dataclass(frozen=True)
class RawData:
    """Two splits as read, with class names and the mean and sd that inputs are normalised with.

    None: those of the training samples that are used, for a table each column's own.
    """

    train: RawSplit
    test: RawSplit
    class_names: tuple[str, ...]
    mean: float | None = None
    std: float | None = None


class MissingDataError(FileNotFoundError):
    """Files of a data set that are not where they were looked for."""
