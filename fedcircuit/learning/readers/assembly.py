"""From two splits as they stand in files to classes, a held-out share and further columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedcircuit.learning.readers.labels import LabelColumn, classes_of
from fedcircuit.learning.readers.parts import held_out
from fedcircuit.learning.sources import Array, DataSource, Inputs, RawData, RawSplit, Rows


@dataclass(frozen=True)
class ReadSplit:
    """Labels, inputs and further columns of one split, by row."""

    labels: LabelColumn
    inputs: Inputs
    columns: Mapping[str, Array] = field(default_factory=dict)


def assembled(
    train: ReadSplit,
    test: ReadSplit | None,
    source: DataSource,
    *,
    seed: int,
    pixels: float | None = None,
) -> RawData:
    """Both splits with the same classes.

    Parameters
    ----------
    train, test
        As read; without tests, the share of the training samples that the source says.
    pixels
        Mean and sd of pixels in [0, 1]; None: those of the training samples.

    Raises
    ------
    ValueError
        If a split is empty, a label is no class, or a value of a further column is missing; the
        row is named.
    """
    other = train if test is None else test
    for part, split in (("training", train), ("test", other)):
        if len(split.labels.values) == 0:
            raise ValueError(f"the {part} samples of {source.name} are none; put some there")
    first, second, names = classes_of(train.labels, other.labels, source.classes)
    splits = _raw(train, first), _raw(other, second)
    if test is None:
        assert source.test_share is not None  # there were no tests to find
        splits = held_out(splits[0], source.test_share, seed=seed)
    return RawData(*splits, names, pixels, pixels)


def _raw(split: ReadSplit, labels: Rows) -> RawSplit:
    where = split.labels.where
    columns = {name: _column(name, values, where) for name, values in split.columns.items()}
    return RawSplit(labels, split.inputs, where, columns)


def _column(name: str, values: Array, where: Callable[[int], str]) -> Array:
    """Whole numbers where the column is one of these, else text."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"column {name!r} must have one value a row, its shape is {values.shape}")
    lost = [value is None or value != value for value in values.tolist()]  # NaN is not itself
    if any(lost):
        raise ValueError(
            f"{where(lost.index(True))} has no value in column {name!r}: give it one, or leave the "
            "row out"
        )
    if values.dtype.kind == "f" and bool((values == np.rint(values)).all()):
        return values.astype(np.int64)  # whole numbers that a missing value elsewhere made floats
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    return np.array([str(value) for value in values.tolist()], dtype=np.str_)


def one_of(names: Sequence[str], usual: Sequence[str], asked: str | None, what: str) -> str | None:
    """The name that is asked for, or the one of the usual names that is there.

    Parameters
    ----------
    names
        What there is.
    usual, asked
        Names to look for, and the only one if it is given.
    what
        ``image`` or ``label``: the key of the source.

    Returns
    -------
    str or None
        None where no usual name is there.

    Raises
    ------
    ValueError
        If the name asked for is not there, or several usual ones are.
    """
    shown = ", ".join(names)
    if asked is not None:
        if asked not in names:
            raise ValueError(f"there is no {asked!r} (data.{what}), there are {shown}")
        return asked
    found = [name for name in usual if name in names]
    if len(found) > 1:
        raise ValueError(
            f"{' and '.join(found)} could all be the {what}: name the one with data.{what}"
        )
    return found[0] if found else None


def required_label(names: Sequence[str], usual: Sequence[str], asked: str | None) -> str:
    """As :func:`one_of` for the label, which must be there."""
    found = one_of(names, usual, asked, "label")
    if found is None:
        raise ValueError(
            f"none of {', '.join(usual)} is there, there are {', '.join(names)}; name the labels "
            "with data.label"
        )
    return found
