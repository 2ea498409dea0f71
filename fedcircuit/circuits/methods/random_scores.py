"""Random scores: the baseline that every method has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedcircuit.circuits.search import (
    SearchedModel,
    SizeRule,
    UnitScored,
    class_stream,
    default_size,
)


@dataclass(frozen=True)
class RandomScores(UnitScored):
    """Scores drawn uniformly from [0, 1), for every class from a stream of its own: a baseline.

    Parameters
    ----------
    size
        Size rule: how many of the best units are taken.
    """

    name: ClassVar[str] = "random"

    size: SizeRule = field(default_factory=default_size)

    def unit_scores(self, searched: SearchedModel) -> Tensor:
        """Random numbers of the generator's seed and the class."""
        streams = [class_stream(searched.generator, c) for c in range(searched.n_classes)]
        return torch.stack([torch.rand(searched.n_units, generator=one) for one in streams])
