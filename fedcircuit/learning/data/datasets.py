"""Data sets as tensors in memory: embedded digits, and readers of files that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedcircuit.learning import derived_seed, largest_remainder
from fedcircuit.learning.data.binary_sphere import binary_sphere
from fedcircuit.learning.data.torchvision_files import read_torchvision
from fedcircuit.learning.readers import (
    inputs_of,
    read_csv,
    read_image_folder,
    read_leaf,
    read_npz,
    read_parquet,
    require_labels,
    statistics,
)
from fedcircuit.learning.sources import DATASET_NAMES, DataSource, RawData, RawSplit, data_root
from fedcircuit.samples import Samples

SZT_TEST_SHARE = 0.2


class Reader(Protocol):
    """Reads a data set of files."""

    def __call__(self, source: DataSource, *, seed: int) -> RawData:
        """Both splits; the seed draws what is held out."""
        ...


READERS: Mapping[str, Reader] = {
    "parquet": read_parquet,
    "image-folder": read_image_folder,
    "csv": read_csv,
    "npz": read_npz,
    "leaf": read_leaf,
}


@dataclass(frozen=True)
class Dataset:
    """Training and test samples, normalised.

    Parameters
    ----------
    name
        Of the data set.
    train, test
        Inputs float32 ``[n, channels, height, width]``, or ``[n, features]`` of a table.
    class_names
        One a class.
    columns
        Further columns ``[n]`` of the training samples by name, such as the writer.
    """

    name: str
    train: Samples
    test: Samples
    class_names: tuple[str, ...]
    columns: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train.inputs.shape[1:])


def load_dataset(source: DataSource, *, seed: int) -> Dataset:
    """The data set of a source.

    Raises
    ------
    ValueError
        If the name is unknown, a limit leaves a class without a sample, ``pool`` does not divide
        the sides of the images, or the files hold what cannot be used; the row is named.
    MissingDataError
        If files are missing; it lists the paths looked at and how to get them.
    """
    raw = _read(source, seed)
    for part, split in (("training", raw.train), ("test", raw.test)):
        require_labels(part, split, len(raw.class_names))
    train = _limited(raw.train, source.train_limit, derived_seed(seed, "train-limit"))
    test = _limited(raw.test, source.test_limit, derived_seed(seed, "test-limit"))
    inputs = inputs_of(train, test, source.shape)
    mean, std = statistics(inputs[0], raw, standardise=source.standardise)
    samples = [
        Samples(
            values.sub_(mean).div_(std).contiguous(),
            torch.from_numpy(split.labels.astype(np.int64)),
        )
        for values, split in zip(inputs, (train, test), strict=True)
    ]
    pooled = [_pooled(split, source) for split in samples]
    return Dataset(source.name, pooled[0], pooled[1], raw.class_names, train.columns)


def _read(source: DataSource, seed: int) -> RawData:
    if source.name == "digits":
        return _digits(seed)
    if source.name == "szt":
        share = SZT_TEST_SHARE if source.test_share is None else source.test_share
        return binary_sphere(share, seed=seed)
    if source.name in READERS:
        return READERS[source.name](source, seed=seed)
    if source.name in DATASET_NAMES:
        return read_torchvision(source.name, data_root(source), download=source.download)
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


def _limited(split: RawSplit, limit: int | None, seed: int) -> RawSplit:
    if limit is None or limit >= len(split.labels):
        return split
    return split.take(stratified_subset(split.labels, limit, seed=seed))


def _pooled(samples: Samples, source: DataSource) -> Samples:
    """The samples with every image averaged over squares of ``source.pool`` pixels a side."""
    if source.pool is None:
        return samples
    if samples.inputs.ndim != 4:
        raise ValueError(
            f"pool averages the pixels of images, the inputs of {source.name!r} are rows of "
            f"{samples.inputs.shape[1]} numbers; leave it out, or say with data.shape what images "
            "they are"
        )
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
