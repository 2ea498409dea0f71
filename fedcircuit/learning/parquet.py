"""Data sets in Parquet with Hugging Face image columns, as hubs serve them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning.raw_data import MissingDataError, RawData, RawSplit


def read_parquet(root: Path) -> RawData:
    """``train.parquet`` and ``test.parquet`` in ``root``; only the images used are decoded.

    One column must hold images (``{bytes, path}`` or raw bytes), the column ``label`` (or
    ``fine_label``) class indices. Class names come from the Hugging Face metadata when present.

    Raises
    ------
    MissingDataError
        If a file is missing.
    ImportError
        If pyarrow or Pillow is not installed.
    ValueError
        If the columns are not found.
    """
    try:
        import PIL.Image  # noqa: F401
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f'reading Parquet needs {error.name}: pip install "fedcircuit[parquet]"'
        ) from error
    tables = []
    for part in ("train", "test"):
        path = root / f"{part}.parquet"
        if not path.is_file():
            raise MissingDataError(
                f"{path} is not there; data.root must name the folder that holds "
                "train.parquet and test.parquet"
            )
        tables.append(pq.read_table(path))
    splits = [_split(table) for table in tables]
    return RawData(splits[0], splits[1], _class_names(tables[0], splits[0].labels), 0.5, 0.5)


def _split(table: Any) -> RawSplit:
    names = table.column_names
    label = next((name for name in ("label", "fine_label", "labels") if name in names), None)
    image = next((name for name in ("img", "image", "images") if name in names), None)
    if label is None or image is None:
        raise ValueError(f"expected columns 'img' (or 'image') and 'label', found {names}")
    column = table.column(image)

    def images(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([_decode(cell.as_py()) for cell in column.take(index)])

    return RawSplit(table.column(label).to_numpy().astype(np.int64), images)


def _decode(cell: Any) -> NDArray[np.uint8]:
    from PIL import Image

    data = cell["bytes"] if isinstance(cell, dict) else cell
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture, dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _class_names(table: Any, labels: NDArray[np.int64]) -> tuple[str, ...]:
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    if metadata:
        features = json.loads(metadata)["info"]["features"]
        for feature in features.values():
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
                return tuple(feature["names"])
    return tuple(str(index) for index in range(int(labels.max()) + 1))
