"""Tables: rows of numbers with a label, as CSV files or without images in Parquet."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning.readers.assembly import ReadSplit, assembled, required_label
from fedcircuit.learning.readers.checks import in_float32
from fedcircuit.learning.readers.labels import LabelColumn
from fedcircuit.learning.readers.parts import files_of_split, require_once, split_files
from fedcircuit.learning.sources import Array, DataSource, Inputs, RawData

if TYPE_CHECKING:
    import pandas as pd

TABLE_LABELS = ("label", "labels", "target", "class", "y")
_SUFFIXES = (".csv", ".csv.gz")
_NAMELESS = re.compile(r"(Unnamed: \d+)?\s*")  # as pandas calls a column without a name
ClassNames = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Frame:
    """Rows of a table, its first file, and the file and row of each."""

    rows: pd.DataFrame
    file: Path
    where: Callable[[int], str]


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
    train, test = (_frame(files) if files else None for files in split_files(source, _find))
    assert train is not None
    return assembled(*table_splits(train, test, source), source, seed=seed)


def _find(root: Path, name: str) -> tuple[Sequence[Path], Sequence[str]]:
    return files_of_split([root], name, _SUFFIXES), [f"{root / name}.csv (or .csv.gz)"]


def _frame(files: Sequence[Path]) -> Frame:
    import pandas as pd

    frames = []
    for path in files:
        try:
            # two lines, so that a row with more cells than names is an error: else pandas takes the
            # first column of such a table for names of rows
            head = pd.read_csv(path, header=None, nrows=2, dtype=str, keep_default_na=False)
            # whole columns at once: in parts, one column can come as numbers and text
            rows = pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{path} cannot be read as CSV: {error}") from error
        require_once(path, [name for name in head.iloc[0] if name])
        frames.append(rows)
        if list(frames[-1].columns) != list(frames[0].columns):
            raise ValueError(f"{path} has other columns than {files[0]}")
    where = rows_of_files(files, [len(frame) for frame in frames])
    return Frame(pd.concat(frames, ignore_index=True), files[0], where)


def rows_of_files(files: Sequence[Path], lengths: Sequence[int]) -> Callable[[int], str]:
    """How the rows of files that follow one another are named: file, and row from 0 in it."""
    ends = np.cumsum(lengths)

    def where(row: int) -> str:
        place = int(np.searchsorted(ends, row, side="right"))
        return f"{files[place]} row {row - int(ends[place]) + lengths[place]}"

    return where


def table_splits(
    train: Frame, test: Frame | None, source: DataSource, names: ClassNames | None = None
) -> tuple[ReadSplit, ReadSplit | None]:
    """Both splits of a table; the tests have the features of the training samples, by name.

    Parameters
    ----------
    train, test
        One row a sample.
    source
        Names of the label, the features and further columns; tests need not have the last.
    names
        Class names by column.

    Raises
    ------
    ValueError
        If there are no rows, a column is not there, or a feature is not a number.
    """
    for frame in (train, test):
        if frame is not None and not len(frame.rows):
            raise ValueError(f"{frame.file} has no rows, only names of columns; put samples there")
    columns = [str(column) for column in train.rows.columns]
    label = required_label(columns, TABLE_LABELS, source.label)
    wanted = source.features or tuple(n for n in columns if n not in (label, *source.columns))
    if not wanted:
        raise ValueError(f"the table has no features beside {', '.join(columns)}")
    nameless = [place for place, name in enumerate(wanted) if _NAMELESS.fullmatch(name)]
    if nameless and not source.features:
        raise ValueError(
            f"column {columns.index(wanted[nameless[0]])} of {train.file} (from 0) has no name, as "
            "the index has that pandas writes, which is no input: write the table with "
            "index=False, name the column, or list the inputs with data.features"
        )
    if label in wanted:
        raise ValueError(f"the label {label!r} cannot be a feature; leave it out of data.features")
    further = {name: _values(_asked(train, name, "data.columns")) for name in source.columns}
    splits = [
        ReadSplit(
            LabelColumn(
                _values(_asked(frame, label, "data.label")),
                frame.where,
                label,
                (names or {}).get(label),
            ),
            _reader(_features(frame, wanted)),
            further if frame is train else {},
        )
        for frame in (train, test)
        if frame is not None
    ]
    return splits[0], splits[1] if test is not None else None


def _features(frame: Frame, names: Sequence[str]) -> NDArray[np.float32]:
    features = np.empty((len(frame.rows), len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        numbers = _numbers(_asked(frame, name, "data.features"), name, frame.where)
        features[:, place] = in_float32(numbers, f"column {name!r}", frame.where)
    return features


def _reader(features: NDArray[np.float32]) -> Inputs:
    return lambda index: features[index]


def _asked(frame: Frame, name: str, key: str) -> pd.Series:
    if name not in frame.rows.columns:
        raise ValueError(
            f"{frame.file} has no column {name!r} ({key}), it has {list(frame.rows.columns)}"
        )
    column: pd.Series = frame.rows[name]
    return column


def _values(column: pd.Series) -> Array:
    if column.dtype.kind in "biuf":
        return np.asarray(column.to_numpy())
    values = column.astype(object)
    return np.asarray(values.where(values.notna(), None).to_numpy(dtype=object))


def _numbers(column: pd.Series, name: str, where: Callable[[int], str]) -> Array:
    """Integers or floats ``[n]``, each finite."""
    if column.dtype.kind not in "biuf":
        column = _without_text(column, name, where)
    if column.dtype.kind in "biu" and not column.hasnans:
        return np.asarray(column.to_numpy())
    numbers: NDArray[np.float64] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise ValueError(
            f"{where(int(wrong[0]))} has {numbers[wrong[0]]} in column {name!r} ({len(wrong)} such "
            "rows): inputs must be finite numbers; fill the gaps, or leave the rows out"
        )
    return numbers


def _without_text(column: pd.Series, name: str, where: Callable[[int], str]) -> pd.Series:
    """A column of objects as numbers, where it holds numbers alone.

    Raises
    ------
    ValueError
        It gives the first value that is no number, with its row; where most are none, the column.
    """
    cells = column.astype(object).to_numpy()
    there = np.flatnonzero(column.notna())
    wrong = [row for row in there.tolist() if not _is_number(cells[row])]
    if 0 < 2 * len(wrong) <= len(cells):
        raise ValueError(
            f"{where(wrong[0])} has {cells[wrong[0]]!r} in column {name!r} ({len(wrong)} such "
            "rows): inputs must be numbers, with a point and without separators; correct them, "
            "leave the rows out, or list the columns that are inputs with data.features"
        )
    text = wrong or [row for row in there.tolist() if isinstance(cells[row], str)]
    if text:
        raise ValueError(
            f"the column {name!r} is not of numbers (such as {cells[text[0]]!r}): list those that "
            "are with data.features, or name it in data.columns if it is no input"
        )
    return column.astype(float)


def _is_number(value: object) -> bool:
    """Whether a cell is a number as CSV files write it: not ``1_000``, ``nan`` or ``True``."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, str) and "_" in value):
        return False
    try:
        return not math.isnan(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
