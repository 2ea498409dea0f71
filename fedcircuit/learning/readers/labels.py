"""From a column of labels to classes 0, 1, ...: whole numbers, truth values or text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning.sources import Array, Rows

_UNLABELLED = (
    "rows of a split that is not labelled are often marked -1: use another one with "
    "data.test_split, or leave these rows out"
)
_MOST_LISTED = 100
_MOST = 2**62  # labels are whole numbers below, so that no sum or difference overflows
_TOO_LARGE = "a label too large for a class"


@dataclass(frozen=True)
class LabelColumn:
    """Labels of one split as they stand in the file.

    Parameters
    ----------
    values
        ``[n]`` whole numbers, truth values, or objects that are text (None where missing).
    where
        File and row of each.
    column
        Name of the column, for messages.
    names
        Names of the classes 0, 1, ... if the file brings them.
    """

    values: Array
    where: Callable[[int], str]
    column: str
    names: tuple[str, ...] | None = None


def classes_of(
    train: LabelColumn, test: LabelColumn, wanted: Sequence[int | str] | None = None
) -> tuple[Rows, Rows, tuple[str, ...]]:
    """Classes ``[n]`` and ``[m]`` from 0, and their names.

    The order is that of ``wanted``; else that of the names that the file brings for its whole
    numbers; else whole numbers are the classes themselves, and text is sorted. A dictionary-encoded
    column counts as the text it stands for: its own order differs from file to file.

    Raises
    ------
    ValueError
        If a label is missing, not whole or not one of the classes, the two splits differ, or whole
        numbers without names leave one out; the row is named.
    """
    columns = (_plain(train), _plain(test))
    text = [column.values.dtype.kind == "O" for column in columns]
    if text[0] != text[1]:
        kinds = ["text" if is_text else "whole numbers" for is_text in text]
        raise ValueError(
            f"the labels ({train.column}) of training are {kinds[0]}, those of the tests {kinds[1]}"
        )
    if train.names and test.names and train.names != test.names:
        raise ValueError(
            f"the files of training and tests name other classes: {_listed(train.names)} and "
            f"{_listed(test.names)}"
        )
    find = _text_classes if text[0] else _number_classes
    values, names = find(columns[0], wanted)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"the classes must have different names, got {_listed(names)}")
    return _codes(columns[0], values), _codes(columns[1], values), names


def _text_classes(
    train: LabelColumn, wanted: Sequence[int | str] | None
) -> tuple[list[object], tuple[str, ...]]:
    names = tuple(str(name) for name in wanted or train.names or sorted(set(train.values)))
    return list(names), names


def _number_classes(
    train: LabelColumn, wanted: Sequence[int | str] | None
) -> tuple[list[object], tuple[str, ...]]:
    """Values of the classes in their order, and the names of these."""
    if wanted is not None and all(isinstance(value, int) for value in wanted):
        return list(wanted), tuple(str(value) for value in wanted)
    given = tuple(str(name) for name in wanted) if wanted is not None else train.names
    if given is not None:
        return list(range(len(given))), given
    found = np.unique(train.values)
    known = found[found >= 0]
    if len(known) == len(found) and (len(found) == 0 or found[-1] + 1 != len(found)):
        missing = next(k for k in range(int(found[-1]) + 1) if k not in set(found.tolist()))
        listing = str(found.tolist()) if len(found) <= _MOST_LISTED else "[...]"
        raise ValueError(
            f"no training row has the label {missing}, the labels ({train.column}) go from "
            f"{found[0]} to {found[-1]}: say which values are classes, such as data.classes: "
            f"{listing}, or name the classes 0, 1, ... there"
        )
    if len(found) and not len(known):
        raise ValueError(
            f"{train.where(0)} has the label {train.values[0]} (in {train.column!r}), and all "
            f"{len(train.values)} training rows have negative ones; {_UNLABELLED}"
        )
    values = list(range(int(known[-1]) + 1)) if len(known) else []
    return list[object](values), tuple(str(value) for value in values)


def _codes(labels: LabelColumn, values: Sequence[object]) -> Rows:
    place = {value: code for code, value in enumerate(values)}
    distinct, inverse = np.unique(labels.values, return_inverse=True)
    codes = np.array([place.get(value, -1) for value in distinct.tolist()], dtype=np.int64)
    found: Rows = codes[inverse] if len(distinct) else np.zeros(0, dtype=np.int64)
    wrong = np.flatnonzero(found < 0)
    if len(wrong):
        row, label = int(wrong[0]), labels.values[wrong[0]]
        negative = not isinstance(label, str) and label < 0
        raise ValueError(
            f"{labels.where(row)} has the label {_shown(label)} (in {labels.column!r}; such rows: "
            f"{len(wrong)}), which is none of the {len(values)} classes {_listed(values)}; "
            + (_UNLABELLED if negative else "data.classes lists the classes that there are")
        )
    return found


def _plain(labels: LabelColumn) -> LabelColumn:
    """The labels as int64 or as text in an object array."""
    values = labels.values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(
            f"a sample must have one label, {labels.column} has the shape {values.shape}; of one "
            "column a class (one-hot), give the position of the largest instead"
        )
    if values.dtype.kind == "f":
        _require(labels, values, np.isfinite(values), "no label")
        _require(labels, values, values == np.rint(values), "a label that is no whole number")
    if values.dtype.kind in "fiu":
        _require(labels, values, np.abs(values) < _MOST, _TOO_LARGE)
    if values.dtype.kind in "fbiu":
        return _with(labels, values.astype(np.int64))
    text = values.astype(object)
    _require(labels, text, np.array([value is not None for value in text], dtype=bool), "no label")
    whole = np.array([isinstance(value, (int, np.integer)) for value in text], dtype=bool)
    if len(text) and whole.all():  # integers too large for a type of their own
        _require(labels, text, np.array([abs(value) < _MOST for value in text]), _TOO_LARGE)
        return _with(labels, text.astype(np.int64))
    known = np.array([isinstance(value, str) for value in text], dtype=bool)
    if 2 * whole.sum() > len(text):
        _require(labels, text, whole, "a label that is no whole number, as most are")
    _require(labels, text, known, "a label that is neither a whole number nor text")
    return _with(labels, text)


def _with(labels: LabelColumn, values: Array) -> LabelColumn:
    return LabelColumn(values, labels.where, labels.column, labels.names)


def _require(labels: LabelColumn, values: Array, fine: NDArray[np.bool_], words: str) -> None:
    if not fine.all():
        row = int(np.flatnonzero(~fine)[0])
        raise ValueError(
            f"{labels.where(row)} has {words}: {_shown(values[row])} ({labels.column}); "
            "correct it, or leave the row out"
        )


def _shown(label: object) -> str:
    return repr(label) if isinstance(label, str) else str(label)


def _listed(names: Sequence[object]) -> str:
    shown = ", ".join(str(name) for name in names[:10])
    return f"{shown}, ..." if len(names) > 10 else shown or "(none)"
