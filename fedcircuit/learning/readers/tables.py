"""Tables: rows of numbers with a label, as CSV files or without images in Parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning.raw_data import Array, RawData
from fedcircuit.learning.readers.assembly import ReadSplit, assembled, required_label
from fedcircuit.learning.readers.labels import LabelColumn
from fedcircuit.learning.readers.parts import files_of_split, split_files
from fedcircuit.learning.source import DataSource

if TYPE_CHECKING:
    import pandas as pd

TABLE_LABELS = ("label", "labels", "target", "class", "y")
_SUFFIXES = (".csv", ".csv.gz")


def read_csv(source: DataSource, *, seed: int) -> RawData:
    """``train.csv`` and ``test.csv`` (or ``.csv.gz``) with a line of column names, or one file.

    An empty cell is a missing value; ``NA`` and the like are text.

    Raises
    ------
    MissingDataError
        If a file is missing.
    ValueError
        If the columns are not those that are asked for, or a row cannot be used.
    """
    train, test = split_files(source, _find)
    splits = [None if not files else _split(files, source) for files in (train, test)]
    assert splits[0] is not None
    return assembled(splits[0], splits[1], source, seed=seed)


def _find(root: Path, name: str) -> tuple[Sequence[Path], Sequence[str]]:
    return files_of_split([root], name, _SUFFIXES), [f"{root / name}.csv (or .csv.gz)"]


def _split(files: Sequence[Path], source: DataSource) -> ReadSplit:
    import pandas as pd

    frames = []
    for path in files:
        try:
            frames.append(pd.read_csv(path, keep_default_na=False, na_values=[""]))
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{path} cannot be read as CSV: {error}") from error
        if list(frames[-1].columns) != list(frames[0].columns):
            raise ValueError(f"{path} has other columns than {files[0]}")
    where = rows_of_files(files, [len(frame) for frame in frames])
    return table_split(pd.concat(frames, ignore_index=True), source, where)


def rows_of_files(files: Sequence[Path], lengths: Sequence[int]) -> Callable[[int], str]:
    """How the rows of files that follow one another are named: file, and row from 0 in it."""
    ends = np.cumsum(lengths)

    def where(row: int) -> str:
        place = int(np.searchsorted(ends, row, side="right"))
        return f"{files[place]} row {row - int(ends[place]) + lengths[place]}"

    return where


def table_split(
    frame: pd.DataFrame,
    source: DataSource,
    where: Callable[[int], str],
    names: dict[str, tuple[str, ...]] | None = None,
) -> ReadSplit:
    """Features ``[n, f]`` float32, labels and further columns of a table.

    Parameters
    ----------
    frame
        One row a sample.
    source
        Names of the label, the features and further columns.
    where
        File and row of each.
    names
        Class names by column.

    Raises
    ------
    ValueError
        If a column is not there, or a feature is not a number.
    """
    columns = [str(column) for column in frame.columns]
    label = required_label(columns, TABLE_LABELS, source.label)
    further = {name: _values(_asked(frame, name, "data.columns")) for name in source.columns}
    wanted = source.features or [n for n in columns if n != label and n not in further]
    if not wanted:
        raise ValueError(f"the table has no features beside {', '.join(columns)}")
    if label in wanted:
        raise ValueError(f"the label {label!r} cannot be a feature; leave it out of data.features")
    features = np.empty((len(frame), len(wanted)), dtype=np.float32)
    for place, name in enumerate(wanted):
        features[:, place] = _numbers(_asked(frame, name, "data.features"), name, where)
    labels = LabelColumn(_values(frame[label]), where, label, (names or {}).get(label))
    return ReadSplit(labels, lambda index: features[index], further)


def _asked(frame: pd.DataFrame, name: str, key: str) -> pd.Series:
    if name not in frame.columns:
        raise ValueError(f"there is no column {name!r} ({key}), there are {list(frame.columns)}")
    column: pd.Series = frame[name]
    return column


def _values(column: pd.Series) -> Array:
    if column.dtype.kind in "biuf":
        return np.asarray(column.to_numpy())
    values = column.astype(object)
    return np.asarray(values.where(values.notna(), None).to_numpy(dtype=object))


def _numbers(column: pd.Series, name: str, where: Callable[[int], str]) -> NDArray[np.float64]:
    if column.dtype.kind not in "biuf":
        example = next((value for value in column if isinstance(value, str)), None)
        raise ValueError(
            f"the column {name!r} is not of numbers (such as {example!r}): list those that "
            "are with data.features, or name it in data.columns if it is no input"
        )
    numbers: NDArray[np.float64] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise ValueError(
            f"{where(int(wrong[0]))} has {numbers[wrong[0]]} in column {name!r} ({len(wrong)} such "
            "rows): inputs must be finite numbers; fill the gaps, or leave the rows out"
        )
    return numbers
