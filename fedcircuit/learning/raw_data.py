"""What readers of files hand over: labels, a way to the images, names and pixel statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawSplit:
    """Labels ``[n]``, and a function from positions to images ``[m, h, w, c]`` uint8."""

    labels: NDArray[np.int64]
    images: Callable[[NDArray[np.int64]], NDArray[np.uint8]]


@dataclass(frozen=True)
class RawData:
    """Two splits as read, with class names and the mean and sd of pixels in [0, 1]."""

    train: RawSplit
    test: RawSplit
    class_names: tuple[str, ...]
    mean: float
    std: float


class MissingDataError(FileNotFoundError):
    """Files of a data set that are not where they were looked for."""
