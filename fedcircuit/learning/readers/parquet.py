"""Data sets in Parquet, as hubs serve them: with image columns, or tables of numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcircuit.learning.readers.assembly import ReadSplit, assembled, one_of, required_label
from fedcircuit.learning.readers.labels import LabelColumn
from fedcircuit.learning.readers.parts import files_of_split, require_once, split_files
from fedcircuit.learning.readers.pictures import Decoding, decoded, decoding_of
from fedcircuit.learning.readers.tables import Frame, rows_of_files, table_splits
from fedcircuit.learning.sources import Array, DataSource, RawData, Rows

IMAGES = ("img", "image", "images")
LABELS = ("label", "labels", "fine_label")


def read_parquet(source: DataSource, *, seed: int) -> RawData:
    """Splits in the root or in its folder ``data``; only the images used are decoded.

    A split is ``train.parquet``, its shards ``train-00000-of-00002.parquet`` in their order, or
    all files of a folder ``train``. One column holds images (``{bytes, path}`` or bytes); without
    one, or with ``features``, the table is one of numbers. Class names come from the metadata of
    the label's own column.

    Raises
    ------
    MissingDataError
        If a file is missing.
    ImportError
        If pyarrow is not installed, or Pillow where there are images.
    ValueError
        If columns are not found, shards are missing, or a row cannot be used.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'reading Parquet needs {error.name}: pip install "fedcircuit[parquet]"'
        ) from error
    train, test = split_files(source, _find)
    image = None
    if source.features is None:
        image = one_of(_opened(train[0]).schema_arrow.names, IMAGES, source.image, "image")
    if image is None:
        tables = [_frame(files) if files else None for files in (train, test)]
        assert tables[0] is not None
        names = _names(train[0])
        return assembled(*table_splits(tables[0], tables[1], source, names), source, seed=seed)
    first = _split(train, image, source)
    tests = replace(source, columns=())  # who holds what is asked of training samples alone
    second = _split(test, image, tests) if test else None
    return assembled(first, second, source, seed=seed, pixels=0.5)


def _find(root: Path, name: str) -> tuple[Sequence[Path], Sequence[str]]:
    folders = [root, root / "data"]
    looked = [
        f"{folder / name}.parquet, {name}-00000-of-NNNNN.parquet or {name}/*.parquet"
        for folder in folders
    ]
    return files_of_split(folders, name, (".parquet",)), looked


def _frame(files: Sequence[Path]) -> Frame:
    tables = [_read(path, None) for path in files]
    where = rows_of_files(files, [len(table) for table in tables])
    return Frame(_joined(tables, files).to_pandas(), files[0], where)


def _names(path: Path) -> dict[str, tuple[str, ...]]:
    """Class names by column."""
    schema = _opened(path).schema_arrow
    return {name: found for name in schema.names if (found := _class_names(schema, name))}


def _split(files: Sequence[Path], image: str, source: DataSource) -> ReadSplit:
    label = required_label(_opened(files[0]).schema_arrow.names, LABELS, source.label)
    wanted = list(dict.fromkeys((image, label, *source.columns)))
    tables = [_read(path, wanted) for path in files]
    where = rows_of_files(files, [len(table) for table in tables])
    table = _joined(tables, files)
    labels = LabelColumn(_values(table, label), where, label, _names(files[0]).get(label))
    further = {name: _values(table, name) for name in source.columns}
    inputs = _images(table.column(image), image, decoding_of(source), where)
    return ReadSplit(labels, inputs, further)


def _opened(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # a single file, whatever its folders are called: key=value in a path is no column
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    require_once(path, file.schema_arrow.names)
    return file


def _read(path: Path, columns: list[str] | None) -> Any:
    import pyarrow as pa

    file = _opened(path)
    absent = [name for name in columns or () if name not in file.schema_arrow.names]
    if absent:
        raise ValueError(f"{path} has no column {absent[0]!r}, it has {file.schema_arrow.names}")
    try:
        return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error


def _joined(tables: Sequence[Any], files: Sequence[Path]) -> Any:
    import pyarrow as pa

    plain = [_decoded(table) for table in tables]
    try:
        return pa.concat_tables(plain, promote_options="permissive")
    except pa.ArrowException as error:
        raise ValueError(f"the columns of {files[0]} and its shards differ: {error}") from error


def _decoded(table: Any) -> Any:
    """The table with dictionary-encoded columns as the values that they stand for."""
    import pyarrow as pa

    for place, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            values = table.column(place).cast(column.type.value_type)
            table = table.set_column(place, column.name, values)
    return table


def _values(table: Any, name: str) -> Array:
    import pyarrow as pa

    column, kind = table.column(name), table.schema.field(name).type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.to_numpy())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
        return values
    raise ValueError(
        f"the column {name!r} must hold whole numbers or text, one a row; its type is {kind}"
    )


def _images(
    column: Any, name: str, decoding: Decoding, where: Callable[[int], str]
) -> Callable[[Rows], list[Array]]:
    import pyarrow as pa

    struct = pa.types.is_struct(column.type)
    kind = column.type.field("bytes").type if struct and "bytes" in column.type.names else None
    kind = kind if struct else column.type
    if kind is None or not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise ValueError(
            f"the column {name!r} must hold encoded images, bytes or a struct with bytes; its type "
            f"is {column.type}"
        )

    def images(index: Rows) -> list[Array]:
        cells = column.take(index).to_pylist() if len(index) else []
        return [
            decoded(_bytes(cell, where(int(row))), decoding, where(int(row)))
            for row, cell in zip(index, cells, strict=True)
        ]

    return images


def _bytes(cell: Any, where: str) -> bytes:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not data:
        path = cell.get("path") if isinstance(cell, dict) else None
        raise ValueError(
            f"{where} holds no image"
            + (f", only the path {path!r}: write the bytes into the file" if path else "")
            + "; or leave the row out"
        )
    return bytes(data)


def _class_names(schema: Any, column: str) -> tuple[str, ...] | None:
    """Names of the classes of this very column in the metadata of hubs, if it has any."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    try:
        feature = json.loads(metadata)["info"]["features"][column] if metadata else None
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    return tuple(str(name) for name in names) if names else None
