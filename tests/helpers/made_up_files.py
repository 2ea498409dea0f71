"""Files of made-up data, as people have them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fedcircuit.learning.data.datasets import Dataset, load_dataset
from fedcircuit.learning.sources.data_source import DataSource


def encoded(picture: Image.Image, kind: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def colour(size: tuple[int, int] = (4, 4), seed: int = 0) -> Image.Image:
    """A random picture of (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def table(
    cells: Sequence[object], labels: object, *, label: str = "label", features: object = None,
    **columns: object,
) -> pa.Table:  # fmt: skip
    rows = [{"bytes": cell, "path": None} for cell in cells]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({"image": pa.array(rows, kind), **columns, label: labels})
    if features is None:
        return made
    metadata = json.dumps({"info": {"features": features}})
    return made.replace_schema_metadata({"huggingface": metadata})


def pictures(n: int, labels: object = None, **options: object) -> pa.Table:
    """n random pictures of two classes in turn."""
    cells = [encoded(colour(seed=i)) for i in range(n)]
    return table(
        cells, labels if labels is not None else pa.array([i % 2 for i in range(n)]), **options
    )


def parquet(root: Path, **splits: pa.Table) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        pq.write_table(rows, root / f"{name}.parquet")


def read(root: Path, name: str = "parquet", seed: int = 0, **options: object) -> Dataset:
    return load_dataset(DataSource(name, root=str(root), **options), seed=seed)


def image_folder(root: Path, **splits: Sequence[str]) -> None:
    """Two pictures of every class in each split."""
    for part, names in splits.items():
        for name in names:
            (root / part / name).mkdir(parents=True)
            for index in range(2):
                colour(seed=index).save(root / part / name / f"{index}.png")
