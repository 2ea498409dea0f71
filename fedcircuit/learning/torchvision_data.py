"""The one place that imports torchvision, lazily: its data sets and its image folders."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning.raw_data import MissingDataError, RawData, RawSplit

# class in torchvision, folder below the root, mean and sd of pixels in [0, 1]
_SETS = {
    "mnist": ("MNIST", "MNIST/raw", 0.1307, 0.3081),
    "fashion-mnist": ("FashionMNIST", "FashionMNIST/raw", 0.2860, 0.3530),
    "cifar10": ("CIFAR10", "cifar-10-batches-py", 0.5, 0.5),
    "cifar100": ("CIFAR100", "cifar-100-python", 0.5, 0.5),
}
_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_CIFAR10 = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
_FILES = {
    "mnist": _IDX,
    "fashion-mnist": _IDX,
    "cifar10": _CIFAR10,
    "cifar100": ("train", "test", "meta"),
}


def import_torchvision() -> ModuleType:
    """torchvision, or one error that says why it does not load and how to mend it."""
    try:
        import torchvision.datasets
    except (ImportError, RuntimeError) as error:
        import torch

        raise ImportError(
            f"torchvision does not load with torch {torch.__version__}: {error}. "
            "The two must come from builds that fit (a CPU build of torch with a CUDA build of "
            "torchvision does not). Reinstall both from one place: "
            "pip install --force-reinstall torch torchvision, or without a GPU "
            "uv pip install --torch-backend=cpu --reinstall torch torchvision"
        ) from error
    module: ModuleType = torchvision
    return module


def read_torchvision(name: str, root: Path, *, download: bool) -> RawData:
    """MNIST, FashionMNIST, CIFAR-10 or CIFAR-100 from files below ``root``."""
    class_name, _, mean, std = _SETS[name]
    if not download:
        missing_files(name, root)
    cls = getattr(import_torchvision().datasets, class_name)
    try:
        train = cls(root=str(root), train=True, download=download)
        test = cls(root=str(root), train=False, download=download)
    except RuntimeError as error:  # torchvision's word for damaged files and failed downloads
        raise MissingDataError(f"{name} below {root} cannot be read: {error}") from error
    return RawData(
        _split(train), _split(test), tuple(_short(name) for name in train.classes), mean, std
    )


def missing_files(name: str, root: Path) -> None:
    """Raise where a data set's files are not below ``root``.

    Raises
    ------
    MissingDataError
        It lists the files looked for, and how to get them.
    """
    folder = root / _SETS[name][1]
    missing = [folder / file for file in _FILES[name] if not (folder / file).is_file()]
    if not missing:
        return
    packed = [path for path in missing if path.with_name(path.name + ".gz").is_file()]
    listing = "\n".join(f"  {path}" for path in missing)
    mend = (
        f"unpack the .gz files beside them (gunzip -k {packed[0]}.gz)"
        if packed
        else "put the files there, name their folder with data.root or FEDCIRCUIT_DATA, "
        "or allow a download with data.download=true"
    )
    raise MissingDataError(f"{name} is not there; looked for\n{listing}\n{mend}")


def _short(name: str) -> str:
    """``7`` for MNIST's ``7 - seven``."""
    return name.split(" - ")[0]


def _split(dataset: Any) -> RawSplit:
    images: NDArray[np.uint8] = np.asarray(dataset.data)
    if images.ndim == 3:
        images = images[..., None]
    return RawSplit(np.asarray(dataset.targets, dtype=np.int64), lambda index: images[index])


def read_image_folder(root: Path) -> RawData:
    """Images of one size in ``root/train/CLASS/*`` and ``root/test/CLASS/*``."""
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise MissingDataError(
                f"an image folder needs {root / 'train'} and {root / 'test'}, each with one "
                f"folder a class; {root / part} is not there"
            )
    folder = import_torchvision().datasets.ImageFolder
    train, test = folder(str(root / "train")), folder(str(root / "test"))
    if train.classes != test.classes:
        raise ValueError(
            f"train and test of {root} must have the same classes, "
            f"got {train.classes} and {test.classes}"
        )
    return RawData(_folder_split(train), _folder_split(test), tuple(train.classes), 0.5, 0.5)


def _folder_split(dataset: Any) -> RawSplit:
    def images(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        pictures = [np.asarray(dataset[int(i)][0], dtype=np.uint8) for i in index]
        shapes = {picture.shape for picture in pictures}
        if len(shapes) > 1:
            raise ValueError(f"all images must have one size, found {sorted(shapes)[:2]}")
        return np.stack(pictures)

    return RawSplit(np.asarray(dataset.targets, dtype=np.int64), images)
