"""Data sets as tensors in memory: embedded digits, and readers of files that are there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedcircuit.learning.apportion import largest_remainder
from fedcircuit.learning.raw_data import RawData, RawSplit
from fedcircuit.learning.seeds import derived_seed
from fedcircuit.samples import Samples

DATASET_NAMES = (
    "digits",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "cifar100",
    "parquet",
    "image-folder",
    "szt",
)
ROOT_VARIABLE = "FEDCIRCUIT_DATA"
DEFAULT_ROOT = Path("~/.cache/fedcircuit/data")


@dataclass(frozen=True)
class DataSource:
    """Which data set, where its files are, and how much of it is used.

    Parameters
    ----------
    name
        One of ``DATASET_NAMES``.
    root
        Folder of the files; else the environment variable FEDCIRCUIT_DATA, else the cache
        folder. ``parquet`` and ``image-folder`` read this very folder.
    train_limit, test_limit
        Size of a seeded, class-stratified subset; None is all.
    download
        Allow torchvision to download what is missing.
    pool
        Side in pixels of the squares that every image is averaged over: 2 makes 14x14 of 28x28.
        Images are normalised with the mean and sd of the full pixels, whose order with averaging
        does not matter; averages vary less, so the sd of pooled inputs is below 1.
    test_share
        For ``szt``: share of the patterns held out for tests; 0 makes all of them both training
        and test samples.
    """

    name: str = "digits"
    root: str | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    download: bool = False
    pool: int | None = None
    test_share: float = 0.2


@dataclass(frozen=True)
class Dataset:
    """Training and test samples: inputs float32 ``[n, channels, height, width]``, normalised."""

    name: str
    train: Samples
    test: Samples
    class_names: tuple[str, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train.inputs.shape[1:])


def data_root(source: DataSource) -> Path:
    """Folder in which the source's files are looked for."""
    if source.root is not None:
        return Path(source.root).expanduser()
    return Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT).expanduser()


def load_dataset(source: DataSource, *, seed: int) -> Dataset:
    """The data set of a source.

    Raises
    ------
    ValueError
        If the name is unknown, a limit leaves a class without a sample, or ``pool`` does not
        divide the sides of the images.
    MissingDataError
        If files are missing; it lists the paths looked at and how to get them.
    """
    raw = _read(source, seed)
    train = _samples(raw, raw.train, source.train_limit, derived_seed(seed, "train-limit"))
    test = _samples(raw, raw.test, source.test_limit, derived_seed(seed, "test-limit"))
    return Dataset(source.name, _pooled(train, source), _pooled(test, source), raw.class_names)


def _read(source: DataSource, seed: int) -> RawData:
    if source.name == "digits":
        return _digits(seed)
    if source.name == "szt":
        from fedcircuit.learning.binary_sphere import binary_sphere

        return binary_sphere(source.test_share, seed=seed)
    root = data_root(source)
    if source.name == "parquet":
        from fedcircuit.learning.parquet import read_parquet

        return read_parquet(root)
    if source.name in DATASET_NAMES:
        from fedcircuit.learning.torchvision_data import read_image_folder, read_torchvision

        if source.name == "image-folder":
            return read_image_folder(root)
        return read_torchvision(source.name, root, download=source.download)
    raise ValueError(f"unknown data set {source.name!r}; known: {', '.join(DATASET_NAMES)}")


def _digits(seed: int) -> RawData:
    """1,797 images of 8x8 in 17 grey levels (UCI optical digits), a fifth of them for tests."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    grey, labels = digits.images, digits.target.astype(np.int64)
    images = np.round(grey * (255.0 / 16.0)).astype(np.uint8)[..., None]
    train, test = train_test_split(
        np.arange(len(labels)),
        test_size=0.2,
        stratify=labels,
        random_state=derived_seed(seed, "digits-split") % 2**32,
    )
    names = tuple(str(digit) for digit in range(10))
    return RawData(
        _in_memory(images[train], labels[train]),
        _in_memory(images[test], labels[test]),
        names,
        mean=0.305,
        std=0.376,
    )


def _in_memory(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> RawSplit:
    return RawSplit(labels, lambda index: images[index])


def _samples(raw: RawData, split: RawSplit, limit: int | None, seed: int) -> Samples:
    index = np.arange(len(split.labels), dtype=np.int64)
    if limit is not None and limit < len(index):
        index = stratified_subset(split.labels, limit, seed=seed)
    pixels = torch.from_numpy(np.ascontiguousarray(split.images(index)))
    inputs = pixels.permute(0, 3, 1, 2).float().div_(255.0).sub_(raw.mean).div_(raw.std)
    labels = torch.from_numpy(split.labels[index].astype(np.int64))
    return Samples(inputs.contiguous(), labels)


def _pooled(samples: Samples, source: DataSource) -> Samples:
    """The samples with every image averaged over squares of ``source.pool`` pixels a side."""
    if source.pool is None:
        return samples
    height, width = samples.inputs.shape[2:]
    if source.pool < 1 or height % source.pool or width % source.pool:
        common = gcd(height, width)
        fitting = [str(side) for side in range(2, common + 1) if common % side == 0]
        raise ValueError(
            f"pool must be a whole number that divides both sides of the images, got {source.pool} "
            f"for the {height}x{width} images of {source.name!r}; "
            + (f"use {', '.join(fitting)}, or leave it out" if fitting else "leave it out")
        )
    return Samples(functional.avg_pool2d(samples.inputs, source.pool), samples.labels)


def stratified_subset(labels: NDArray[np.int64], limit: int, *, seed: int) -> NDArray[np.int64]:
    """Sorted positions of ``limit`` samples in which every class keeps its share.

    Shares are rounded by largest remainder, so that the total is exact.

    Raises
    ------
    ValueError
        If the limit would leave a class without a sample.
    """
    classes, counts = np.unique(labels, return_counts=True)
    take = largest_remainder(counts.astype(np.int64), limit)
    if int(take.min()) == 0:
        raise ValueError(
            f"a limit of {limit} samples leaves class {classes[int(take.argmin())]} of "
            f"{len(classes)} classes without any; use a larger limit"
        )
    rng = np.random.default_rng(seed)
    chosen = [
        rng.choice(np.flatnonzero(labels == label), size=n, replace=False)
        for label, n in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))
