"""Folders of images, one folder a class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fedcircuit.learning.readers.assembly import ReadSplit, assembled
from fedcircuit.learning.readers.labels import LabelColumn
from fedcircuit.learning.readers.parts import is_hidden, split_files
from fedcircuit.learning.readers.pictures import Decoding, decoded, decoding_of
from fedcircuit.learning.sources import Array, DataSource, RawData, Rows, data_root

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif",
)  # fmt: skip


def read_image_folder(source: DataSource, *, seed: int) -> RawData:
    """Images of one size in ``train/CLASS/*`` and ``test/CLASS/*`` (or val, valid, validation).

    With a share held out for tests the folders of the classes may stand in the root itself.
    Hidden files and folders are left out, and so are files that are no images by their suffix.

    Raises
    ------
    MissingDataError
        If a folder is missing.
    ImportError
        If Pillow is not installed.
    ValueError
        If the root is a file, the two splits have other classes, a link leads back to a folder that
        it lies in, or an image cannot be used.
    """
    if source.columns:
        raise ValueError(f"an image folder has no columns, so no {', '.join(source.columns)}")
    decoding = decoding_of(source)
    root = data_root(source)
    if root.is_file():
        raise ValueError(f"{root} is a file; data.root is the folder that holds train/CLASS/*")
    if source.test_share is not None and root.is_dir() and not _find(root, "train")[0]:
        train, test = [root], list[Path]()
    else:
        train, test = map(list, split_files(source, _find))
    first = _split(train[0], decoding)
    second = _split(test[0], decoding) if test else None
    if second is not None:
        _require_same_classes(first, second, train[0], test[0])
    return assembled(first, second, source, seed=seed, pixels=0.5)


def _find(root: Path, name: str) -> tuple[Sequence[Path], Sequence[str]]:
    folder = root / name
    return ([folder] if folder.is_dir() else []), [f"{folder}/CLASS/*"]


def _split(folder: Path, decoding: Decoding) -> ReadSplit:
    classes = sorted(
        path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)
    )
    found = [(path, own.name) for own in classes for path in _images_below(own)]
    empty = [own for own in classes if not any(name == own.name for _, name in found)]
    if empty or not classes:
        raise ValueError(
            f"{empty[0] if empty else folder} holds no image ({', '.join(SUFFIXES)})"
            + ("; put some there, or remove the folder" if empty else " in folders of classes")
        )
    files = [path for path, _ in found]
    names = np.array([name for _, name in found], dtype=object)
    labels = LabelColumn(names, lambda row: str(files[row]), "folder")
    return ReadSplit(labels, _reader(files, decoding))


def _reader(files: Sequence[Path], decoding: Decoding) -> Callable[[Rows], list[Array]]:
    return lambda index: [decoded(files[i], decoding, str(files[i])) for i in index.tolist()]


def _images_below(folder: Path) -> list[Path]:
    """Images of a class, in folders below it too, in the order of their paths."""
    return sorted(_below(folder, frozenset(folder.resolve().parents)))


def _below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Images in a folder and below; links are followed, but to no folder that is on the way."""
    real = folder.resolve()
    if real in above:
        raise ValueError(
            f"{folder} leads back to {real}, in which it lies: its images would count again and "
            "again; remove this link"
        )
    try:
        inside = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error}") from error
    for path in inside:
        if path.is_dir():
            yield from _below(path, above | {real})
        elif path.name.lower().endswith(SUFFIXES):
            yield path


def _require_same_classes(first: ReadSplit, second: ReadSplit, train: Path, test: Path) -> None:
    names = [sorted(set(split.labels.values.tolist())) for split in (first, second)]
    if names[0] != names[1]:
        raise ValueError(
            f"{train} and {test} must have the same classes, got {names[0]} and {names[1]}"
        )
