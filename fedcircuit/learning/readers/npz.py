"""Arrays in npz files: inputs and labels of every split, under the names in use."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedcircuit.learning.readers.assembly import ReadSplit, assembled, one_of
from fedcircuit.learning.readers.checks import in_float32
from fedcircuit.learning.readers.labels import LabelColumn
from fedcircuit.learning.readers.parts import (
    TEST_NAMES,
    TRAIN_NAMES,
    is_hidden,
    missing,
    require_once,
    split_files,
)
from fedcircuit.learning.sources import Array, DataSource, RawData, data_root, row_of

INPUTS = ("x", "images", "data")
LABELS = ("y", "labels", "label", "target")


def read_npz(source: DataSource, *, seed: int) -> RawData:
    """Images ``[n, h, w]`` with or without channels, or rows ``[n, f]``, and labels ``[n]``.

    One file with ``x_train``, ``y_train``, ``x_test``, ``y_test`` (or ``train_images``,
    ``train_labels`` and so on, as MedMNIST has them), or ``train.npz`` and ``test.npz`` with ``x``
    and ``y``. Capital letters make no difference. Nothing is unpickled. Pixels of 8 and 16 bits
    are normalised as images; other numbers by the training samples.

    Raises
    ------
    MissingDataError
        If a file is missing.
    ValueError
        If arrays are missing, have to be unpickled or do not belong together.
    """
    root = data_root(source)
    alone = [root] if root.is_file() else _visible(root)
    parts: dict[str, ReadSplit | None]
    if len(alone) == 1 and not _find(root, "train")[0]:
        parts = _of_one_file(alone[0], source)
    else:
        train, test = split_files(source, _find)
        parts = {
            part: _split(_Arrays(files[0]), "", source, training=part == "train") if files else None
            for part, files in (("train", train), ("test", test))
        }
    first, second = parts["train"], parts["test"]
    assert first is not None
    example = [
        part.inputs(np.arange(1))[0] for part in (first, second) if part and part.labels.values.size
    ]
    if len({array.dtype.kind for array in example}) > 1:
        raise ValueError(
            f"{root}: training inputs are {example[0].dtype}, test inputs {example[1].dtype}; save "
            "both as one type"
        )
    whole = bool(example) and example[0].dtype.kind == "u"
    return assembled(first, second, source, seed=seed, pixels=0.5 if whole else None)


def _visible(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob("*.npz")) if not is_hidden(path.name)]


def _find(root: Path, name: str) -> tuple[Sequence[Path], Sequence[str]]:
    path = root / f"{name}.npz"
    return ([path] if path.is_file() else []), [str(path)]


class _Arrays:
    """The arrays of a file by their names in small letters."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                names = [name.lower() for name in file.files]
                self.by_name: dict[str, Array] = {name.lower(): file[name] for name in file.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read as npz: {error}") from error
        require_once(path, names)


def _of_one_file(path: Path, source: DataSource) -> dict[str, ReadSplit | None]:
    """Both splits of one file; no tests where a share is held out."""
    arrays = _Arrays(path)
    tests = TEST_NAMES if source.test_split is None else (source.test_split.lower(),)
    train, test = _part(arrays, TRAIN_NAMES, source), _part(arrays, tests, source)
    if train is None:
        train = ""  # inputs and labels without the name of a split
    first = _split(arrays, train, source, training=True)
    if test is None and (source.test_share is None or source.test_split is not None):
        raise missing(source, [f"{path}: {tests[0]}_images, x_{tests[0]}, ..."], "tests are not")
    return {
        "train": first,
        "test": None if test is None else _split(arrays, test, source, training=False),
    }


def _part(arrays: _Arrays, parts: Sequence[str], source: DataSource) -> str | None:
    """The first of the splits that has inputs."""
    stems = INPUTS if source.image is None else (source.image.lower(),)
    for part in parts:
        if any(name in arrays.by_name for stem in stems for name in _names(stem, part)):
            return part
    return None


def _names(stem: str, part: str) -> tuple[str, ...]:
    return (f"{stem}_{part}", f"{part}_{stem}") if part else (stem,)


def _split(arrays: _Arrays, part: str, source: DataSource, *, training: bool) -> ReadSplit:
    path = arrays.path
    where = row_of(f"{path} {part}".rstrip())
    inputs = _images(_wanted(arrays, part, source.image, INPUTS, "image"), path, where)
    labels = _wanted(arrays, part, source.label, LABELS, "label")
    further = {
        name: _wanted(arrays, part, name, (), "columns")
        for name in (source.columns if training else ())
    }
    for name, values in (("labels", labels), *further.items()):
        if values.ndim == 0:
            raise ValueError(
                f"{path}: the {name} ({part}) are the single value {values}; give one a sample"
            )
        if len(values) != len(inputs):
            raise ValueError(f"{path} has {len(inputs)} inputs and {len(values)} {name} ({part})")
    return ReadSplit(LabelColumn(labels, where, "labels"), lambda index: inputs[index], further)


def _wanted(arrays: _Arrays, part: str, asked: str | None, usual: Sequence[str], key: str) -> Array:
    stems = usual if asked is None else (asked.lower(),)
    wanted = [name for stem in stems for name in _names(stem, part)]
    try:
        found = one_of(list(arrays.by_name), wanted, None, key)
    except ValueError as error:
        raise ValueError(f"{arrays.path}: {error}") from None
    if found is None:
        raise ValueError(
            f"{arrays.path} has none of {', '.join(wanted)}, it has "
            f"{', '.join(arrays.by_name)}; name the arrays with data.image and data.label, "
            "without the name of the split"
        )
    return arrays.by_name[found]


def _images(values: Array, path: Path, where: Callable[[int], str]) -> Array:
    """``[n, h, w, channels]``, or numbers ``[n, f]``."""
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path}: inputs must be numbers, they are {values.dtype}")
    if values.ndim == 2:
        rows = np.empty(values.shape, dtype=np.float32)
        for place in range(values.shape[1]):
            rows[:, place] = in_float32(values[:, place], f"column {place}", where)
        return rows
    if values.dtype not in (np.uint8, np.uint16):
        values = values.astype(np.float32)
    if values.ndim == 3:
        return values[..., None]
    if values.ndim == 4:
        first, *_, last = values.shape[1:]
        if last < min(values.shape[1:3]):
            return values
        if first < min(values.shape[2:]):
            return np.moveaxis(values, 1, 3)
    raise ValueError(
        f"{path}: inputs must be images [n, h, w], [n, h, w, channels] or [n, channels, h, w] with "
        f"fewer channels than pixels a side, or rows [n, f]; their shape is {list(values.shape)}"
    )
