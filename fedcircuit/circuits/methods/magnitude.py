"""Weight magnitude: a baseline that sees neither samples nor classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.models import incoming_weights
from fedcircuit.circuits.search import Meter, Scored, SizeRule, Task, default_size


@dataclass(frozen=True)
class Magnitude(Scored):
    """Norm of the weights a unit reads with, the same for every class: a baseline.

    The Euclidean norm of the incoming weights of the unit's own layer (of an attention head: of
    its query, key and value projections), relative to the mean over
    the units of its site: without that, sites of large fan-in would come first whatever they do.

    Parameters
    ----------
    size
        Size rule: how many of the best units are taken.
    """

    name: ClassVar[str] = "magnitude"

    size: SizeRule = field(default_factory=default_size)

    def scores(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Tensor:
        """Relative norms, in as many equal rows as there are classes."""
        norms = []
        for site in sites:
            norm = incoming_weights(model, site).norm(dim=1)
            norms.append(norm / norm.mean().clamp(min=torch.finfo(norm.dtype).tiny))
        return torch.cat(norms).expand(task.n_classes, -1)
