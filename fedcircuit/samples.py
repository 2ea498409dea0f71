"""Labelled samples: the one form in which data travel through the package."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """Inputs ``[n, ...]`` float and labels ``[n]`` int64 of the same length.

    Raises
    ------
    ValueError
        If the lengths differ or the labels are not ``[n]`` int64.
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            raise ValueError(
                "labels must be int64 of shape [n], "
                f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )
        if len(self.inputs) != len(self.labels):
            raise ValueError(
                f"inputs and labels must have the same length, "
                f"got {len(self.inputs)} and {len(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Samples:
        """The samples at ``index``: int64 positions ``[m]`` or a bool mask ``[n]``."""
        return Samples(self.inputs[index], self.labels[index])

    def counts(self, n_classes: int) -> Tensor:
        """Samples of each class, ``[n_classes]`` int64."""
        return torch.bincount(self.labels, minlength=n_classes)
