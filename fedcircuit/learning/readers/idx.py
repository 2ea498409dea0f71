"""IDX files, the format of MNIST and Fashion-MNIST, packed or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning.sources import MissingDataError, RawData, RawSplit

_UBYTE = 8


def unfound_idx_files(folder: Path) -> list[str]:
    """Those of the four files that are there neither plain nor as ``.gz``."""
    return [f"{path} (or .gz)" for path in _wanted(folder) if _plain_or_packed(path) is None]


def _wanted(folder: Path) -> list[Path]:
    return [
        folder / f"{part}-{what}"
        for part in ("train", "t10k")
        for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]


def _plain_or_packed(path: Path) -> Path | None:
    packed = path.with_name(path.name + ".gz")
    return next((file for file in (path, packed) if file.is_file()), None)


def read_idx(folder: Path, class_names: tuple[str, ...], *, mean: float, std: float) -> RawData:
    """Images and labels of both splits.

    Raises
    ------
    MissingDataError
        If a file is missing.
    ValueError
        If a file is damaged, or images and labels do not belong together.
    """
    missing = unfound_idx_files(folder)
    if missing:
        raise MissingDataError("\n".join(["looked for", *missing]))
    files = [path for wanted in _wanted(folder) if (path := _plain_or_packed(wanted))]
    splits = [_split(files[:2], len(class_names)), _split(files[2:], len(class_names))]
    return RawData(splits[0], splits[1], class_names, mean, std)


def _split(files: list[Path], n_classes: int) -> RawSplit:
    images, labels = files
    pixels, classes = idx_array(images), idx_array(labels).astype(np.int64)
    if pixels.ndim != 3 or classes.ndim != 1 or len(pixels) != len(classes):
        raise ValueError(
            f"{images} and {labels} must hold images [n, h, w] and as many labels [n], they hold "
            f"{list(pixels.shape)} and {list(classes.shape)}"
        )
    wrong = np.flatnonzero(classes >= n_classes)
    if len(wrong):
        raise ValueError(
            f"{labels} row {wrong[0]} has the label {classes[wrong[0]]}, the classes are "
            f"0..{n_classes - 1}"
        )
    return RawSplit(
        classes, lambda index: pixels[index][..., None], lambda row: f"{images} row {row}"
    )


def idx_array(path: Path) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file.

    Raises
    ------
    ValueError
        If the file is not one, or shorter or longer than it says.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, n_dims = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{n_dims}I", data, 4)
    except struct.error as error:
        raise ValueError(
            f"{path} cannot be read as an IDX file: it holds {len(data)} bytes"
            f"{', unpacked' if path.suffix == '.gz' else ''}, fewer than its header has; get it "
            "again"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as an IDX file: {error}; get it again") from error
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * n_dims)
    if zero != 0 or kind != _UBYTE or len(values) != np.prod(shape, dtype=np.int64):
        raise ValueError(
            f"{path} cannot be read as an IDX file of bytes: type {kind}, shape {list(shape)}, "
            f"{len(values)} values"
        )
    return values.reshape(shape)
