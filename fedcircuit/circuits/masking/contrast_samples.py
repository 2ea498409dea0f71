"""What circuits are run in, and on which samples: those of a class, and some of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from fedcircuit.circuits import Site


class Masked(Protocol):
    """Models, nearly always one, that run under many masks on samples known beforehand."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites of the models."""
        ...

    def full_logits(self) -> Tensor:
        """Logits of the models themselves, ``[models * n, classes]``."""
        ...

    def pair_logits(self, masks: Tensor, mask_index: Tensor, sample_index: Tensor) -> Tensor:
        """Logits of chosen masks on chosen samples, ``[rows, classes]``."""
        ...

    def has_path(self, masks: Tensor, owners: Tensor) -> Tensor:
        """Whether a path leads through mask i in the model ``owners[i]``, ``[rows]`` bool."""
        ...


def contrast(
    labels: Tensor, class_index: int, negatives: int, rest: Tensor | None = None
) -> Tensor:
    """All samples of a class, then some of the others; positions ``[k]`` int64.

    The others are at most ``negatives``, evenly spaced over the classes, so that each class keeps
    its share and a rate measured on them estimates the rate on all. ``rest [n]`` bool says which
    samples may be among the others; None is all.
    """
    by_class = labels.sort(stable=True).indices
    own = labels[by_class] == class_index
    others = by_class[~own] if rest is None else by_class[~own & rest[by_class]]
    if len(others) > negatives:
        others = others[torch.arange(negatives) * len(others) // max(negatives, 1)]
    return torch.cat([by_class[own], others])


def paired(samples: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Samples of many rows one after the other: the row, and the position, of each."""
    lengths = torch.tensor([len(part) for part in samples], dtype=torch.int64)
    return torch.arange(len(samples)).repeat_interleave(lengths), torch.cat(
        [torch.zeros(0, dtype=torch.int64), *samples]
    )


def by_length(samples: Sequence[Tensor]) -> list[Tensor]:
    """Rows with equally many samples, each group ``[rows]`` int64."""
    lengths = torch.tensor([len(part) for part in samples], dtype=torch.int64)
    return [(lengths == length).nonzero().flatten() for length in sorted(set(lengths.tolist()))]
