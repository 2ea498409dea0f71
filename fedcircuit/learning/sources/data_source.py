"""Which data set a study uses, and where its files are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

DatasetName = Literal[
    "digits",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "cifar100",
    "parquet",
    "image-folder",
    "csv",
    "npz",
    "leaf",
    "szt",
]
DATASET_NAMES: tuple[str, ...] = get_args(DatasetName)
ROOT_VARIABLE = "FEDCIRCUIT_DATA"
DEFAULT_ROOT = Path("~/.cache/fedcircuit/data")

Background = Literal["black", "white"]


@dataclass(frozen=True)
class DataSource:
    """Which data set, where its files are, how they are read, and how much of it is used.

    Parameters
    ----------
    name
        One of ``DATASET_NAMES``.
    root
        Folder of the files; else the environment variable FEDCIRCUIT_DATA, else the cache
        folder. ``parquet``, ``image-folder``, ``csv``, ``npz`` and ``leaf`` read this very folder;
        for ``csv``, ``npz`` and ``parquet`` it may be a single file.
    train_limit, test_limit
        Size of a seeded, class-stratified subset; None is all.
    download
        Allow torchvision to download what is missing.
    pool
        Side in pixels of the squares that every image is averaged over: 2 makes 14x14 of 28x28.
        Images are normalised with the mean and sd of the full pixels, whose order with averaging
        does not matter; averages vary less, so the sd of pooled inputs is below 1.
    test_share
        Share of the samples held out for tests where the data have one split only, drawn by the
        seed in the mix of the classes. For ``szt`` 0 makes all patterns both training and test
        samples, and None is 0.2.
    image, label
        Column (or array) of the images and of the labels; None: the usual names.
    features
        Columns of a table that are inputs; None: all but the label and ``columns``.
    columns
        Further columns of the training samples, such as the writer: see ``Dataset.columns``.
    classes
        The classes in their order: names, or for whole labels the values that are classes. None:
        the names that the data bring; of text, the distinct values, sorted.
    test_split
        Split that tests are made on, such as ``validation``; None: test, or else validation.
    colour
        True: three channels; False: grey; None: three where any image has colour.
    background
        What transparent pixels are laid on; None refuses them.
    shape
        ``(height, width)`` or ``(height, width, channels)`` that rows of numbers are images of.
    standardise
        Numbers that are not pixels, from ``csv``, ``npz`` and ``leaf``: by mean and sd of the
        training samples, each column of a table by its own; False leaves them.
    """

    name: str = "digits"
    root: str | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    download: bool = False
    pool: int | None = None
    test_share: float | None = None
    image: str | None = None
    label: str | None = None
    features: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    classes: tuple[int | str, ...] | None = None
    test_split: str | None = None
    colour: bool | None = None
    background: Background | None = None
    shape: tuple[int, ...] | None = None
    standardise: bool = True


def data_root(source: DataSource) -> Path:
    """Folder in which the source's files are looked for."""
    if source.root is not None:
        return Path(source.root).expanduser()
    return Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT).expanduser()
