"""MNIST, Fashion-MNIST and CIFAR; the one place that imports torchvision, lazily."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning.readers import read_idx, unfound_idx_files
from fedcircuit.learning.sources import MissingDataError, RawData, RawSplit, row_of

_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_DIGITS = tuple(str(digit) for digit in range(10))
# class in torchvision, folder below the root, mean and sd of pixels in [0, 1]
_SETS = {
    "mnist": ("MNIST", "MNIST/raw", 0.1307, 0.3081),
    "fashion-mnist": ("FashionMNIST", "FashionMNIST/raw", 0.2860, 0.3530),
    "cifar10": ("CIFAR10", "cifar-10-batches-py", 0.5, 0.5),
    "cifar100": ("CIFAR100", "cifar-100-python", 0.5, 0.5),
}
_IDX_CLASSES = {"mnist": _DIGITS, "fashion-mnist": _FASHION}
_FILES = {
    "cifar10": (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
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
    class_name, folder, mean, std = _SETS[name]
    if not download:
        missing_files(name, root)
    if download or name not in _IDX_CLASSES:
        cls = getattr(import_torchvision().datasets, class_name)
        try:
            train = cls(root=str(root), train=True, download=download)
            test = cls(root=str(root), train=False, download=download)
        except RuntimeError as error:  # torchvision's word for damage and failed downloads
            raise MissingDataError(f"{name} below {root} cannot be read: {error}") from error
    if name in _IDX_CLASSES:
        return read_idx(root / folder, _IDX_CLASSES[name], mean=mean, std=std)
    return RawData(_split(train, "train"), _split(test, "test"), tuple(train.classes), mean, std)


def missing_files(name: str, root: Path) -> None:
    """Raise where a data set's files are not below ``root``.

    Raises
    ------
    MissingDataError
        It lists the files looked for, and how to get them.
    """
    folder = root / _SETS[name][1]
    if name in _IDX_CLASSES:
        missing = unfound_idx_files(folder)
    else:
        files = [folder / file for file in _FILES[name]]
        missing = [str(path) for path in files if not path.is_file()]
    if missing:
        listing = "\n".join(f"  {path}" for path in missing)
        raise MissingDataError(
            f"{name} is not there; looked for\n{listing}\nput the files there, name their folder "
            "with data.root or FEDCIRCUIT_DATA, or allow a download with data.download=true"
        )


def _split(dataset: Any, part: str) -> RawSplit:
    images: NDArray[np.uint8] = np.asarray(dataset.data)
    labels = np.asarray(dataset.targets, dtype=np.int64)
    return RawSplit(labels, lambda index: images[index], row_of(f"{type(dataset).__name__} {part}"))
