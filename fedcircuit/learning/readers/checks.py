"""What every reader's data pass on their way out: labels, sizes, finite numbers, one shape."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import starmap

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedcircuit.learning.readers.pictures import stacked
from fedcircuit.learning.sources import Array, RawData, RawSplit

logger = logging.getLogger(__name__)

_ROUNDED = 0.01  # share of a column's spread from which rounding to float32 is said
_LOST = 0.1  # and from which it is refused
_BLOCK = 4096  # rows at a time, so that no copy of all data is needed


def require_labels(part: str, split: RawSplit, n_classes: int) -> None:
    """Raise where a split is empty, or a label is not one of the classes.

    Raises
    ------
    ValueError
        It names the row.
    """
    if len(split.labels) == 0:
        raise ValueError(f"the {part} samples are none; the data need at least one")
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= n_classes))
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"{split.where(row)} ({part}) has the label {split.labels[row]}, the classes are "
            f"0..{n_classes - 1}"
        )


def in_float32(values: Array, what: str, where: Callable[[int], str]) -> NDArray[np.float32]:
    """A column of numbers ``[n]`` as networks compute with them; NaN and infinity stay.

    float32 has 24 binary digits: numbers far from 0 that differ little, such as identifiers or
    times in seconds, become one. Where rounding takes more than a hundredth of the column's
    standard deviation, that is said in the log.

    Raises
    ------
    ValueError
        If it takes more than a tenth, or a number is beyond the largest of float32.
    """
    if np.can_cast(values.dtype, np.float32):
        return values.astype(np.float32)
    finite = np.isfinite(values)
    beyond = np.flatnonzero(finite & (np.abs(values) > np.finfo(np.float32).max))
    if len(beyond):
        raise ValueError(
            f"{where(int(beyond[0]))} has {values[beyond[0]]} in {what}, beyond the largest number "
            "of float32, 3.4e+38: give it in another unit"
        )
    narrow = values.astype(np.float32)
    wide = values.astype(np.longdouble)[finite]
    spread = wide.std() if len(wide) else 0.0
    lost = float(np.sqrt(np.mean((narrow[finite] - wide) ** 2)) / spread) if spread > 0 else 0.0
    if lost > _ROUNDED:
        words = (
            f"{what} ({where(0)} and so on) goes from {values.min()} to {values.max()}, which "
            f"float32 rounds by {lost:.0%} of the standard deviation"
        )
        if lost > _LOST:
            raise ValueError(
                f"{words}: subtract what all have in common, or leave the column out if it is no "
                "input, such as an identifier"
            )
        logger.warning("%s; subtract what all have in common", words)
    return narrow


def inputs_of(
    train: RawSplit, test: RawSplit, shape: tuple[int, ...] | None
) -> tuple[Tensor, Tensor]:
    """Inputs of both splits as float32, ``[n, channels, height, width]`` or ``[n, features]``.

    Whole pixels become shares of the largest value in [0, 1].

    Parameters
    ----------
    shape
        Of the images that rows of numbers are; None leaves them rows.

    Raises
    ------
    ValueError
        If shapes differ, or a number is not finite; the row is named.
    """
    splits = (train, test)
    read = [stacked(s.inputs(np.arange(len(s.labels), dtype=np.int64)), s.where) for s in splits]
    read = _same_channels(read)
    if shape is not None:
        read = [_reshaped(values, shape) for values in read]
    if read[0].shape[1:] != read[1].shape[1:]:
        raise ValueError(
            "training and test inputs must have one shape, got "
            f"{_shown(read[0])} ({train.where(0)}) and {_shown(read[1])} ({test.where(0)})"
        )
    return tuple(starmap(_tensor, zip(read, splits, strict=True)))  # type: ignore[return-value]


def _same_channels(read: list[Array]) -> list[Array]:
    """Images of which one split is grey and the other has colour, both in three channels."""
    if any(values.ndim != 4 or values.dtype.kind == "f" for values in read):
        return read
    if {values.shape[-1] for values in read} != {1, 3}:
        return read
    return [np.repeat(v, 3, axis=-1) if v.shape[-1] == 1 else v for v in read]


def _reshaped(values: Array, shape: tuple[int, ...]) -> Array:
    """Images ``[n, h, w, channels]`` of rows of numbers."""
    size = int(np.prod(shape))
    if values.ndim != 2 or values.shape[1] != size or len(shape) not in (2, 3):
        raise ValueError(
            f"data.shape {list(shape)} must be the height and width, or height, width and "
            f"channels, of rows of {size} numbers; the inputs are {_shown(values)}"
        )
    return values.reshape(len(values), *shape, *([1] if len(shape) == 2 else []))


def _tensor(values: Array, split: RawSplit) -> Tensor:
    scale = np.iinfo(values.dtype).max if values.dtype.kind == "u" else None
    whole = values if values.dtype == np.uint8 else values.astype(np.float32)
    tensor = torch.from_numpy(np.array(whole))
    if tensor.ndim == 4:
        tensor = tensor.permute(0, 3, 1, 2)
    tensor = tensor.float().contiguous()
    if scale is not None:
        return tensor.div_(float(scale))
    fine = torch.isfinite(tensor.flatten(1)).all(1)
    if not bool(fine.all()):
        row = int((~fine).nonzero()[0])
        raise ValueError(
            f"{split.where(row)} holds a number that is not finite ({int((~fine).sum())} such "
            "rows); correct it, or leave the row out"
        )
    return tensor


def statistics(
    inputs: Tensor, raw: RawData, *, standardise: bool
) -> tuple[Tensor | float, Tensor | float]:
    """Mean and sd that inputs are normalised with.

    The data set's own; else those of the training inputs, each column of a table by itself and
    all pixels of images together. A column that never changes is only centred.
    """
    if raw.mean is not None and raw.std is not None:
        return raw.mean, raw.std
    if not standardise:
        return 0.0, 1.0
    axes = (0,) if inputs.ndim == 2 else tuple(range(inputs.ndim))
    values = inputs.numpy()
    blocks = [values[start : start + _BLOCK] for start in range(0, len(values), _BLOCK)]
    n = values.size / (values.shape[1] if inputs.ndim == 2 else 1)
    mean = np.sum([b.sum(axis=axes, dtype=np.float64) for b in blocks], axis=0) / n
    squares = [((b - mean) ** 2).sum(axis=axes, dtype=np.float64) for b in blocks]
    sd = np.sqrt(np.sum(squares, axis=0) / n)
    sd = np.where(sd > 0, sd, 1.0)
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(sd, dtype=torch.float32)


def _shown(values: Array) -> str:
    return "x".join(str(side) for side in values.shape[1:])
