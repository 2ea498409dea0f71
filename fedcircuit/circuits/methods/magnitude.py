"""Weight magnitude: a baseline that sees neither samples nor classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedcircuit.circuits.models import incoming_weights
from fedcircuit.circuits.search import SearchedModel, SizeRule, UnitScored, default_size


@dataclass(frozen=True)
class Magnitude(UnitScored):
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

    def unit_scores(self, searched: SearchedModel) -> Tensor:
        """Relative norms, in as many equal rows as there are classes."""
        norms = []
        for site in searched.sites:
            norm = incoming_weights(searched.model, site).norm(dim=1)
            norms.append(norm / norm.mean().clamp(min=torch.finfo(norm.dtype).tiny))
        return torch.cat(norms).expand(searched.n_classes, -1)
