"""Random scores: the baseline that every method has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.search import Meter, Scored, SizeRule, Task, class_stream, default_size


@dataclass(frozen=True)
class RandomScores(Scored):
    """Scores drawn uniformly from [0, 1), for every class from a stream of its own: a baseline.

    Parameters
    ----------
    size
        Size rule: how many of the best units are taken.
    """

    name: ClassVar[str] = "random"

    size: SizeRule = field(default_factory=default_size)

    def scores(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Tensor:
        """Random numbers of the generator's seed and the class."""
        n_units = sum(site.n_units for site in sites)
        return torch.stack(
            [torch.rand(n_units, generator=class_stream(generator, index))
             for index in range(task.n_classes)]
        )  # fmt: skip
