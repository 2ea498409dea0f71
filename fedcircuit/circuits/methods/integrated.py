"""Integrated attribution: gradients averaged on the way from no unit to all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fedcircuit.circuits.search import (
    SearchedModel,
    SizeRule,
    UnitScored,
    default_size,
    shared_gradients,
)
from fedcircuit.ranges import require_at_least


@dataclass(frozen=True)
class Integrated(UnitScored):
    """Attribution averaged over points between the empty circuit and the full model.

    Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) in the space of gates: all
    gates open together from 0 to 1, and a unit's score is the integral of the derivative of the
    separation with respect to its gate (for edges: EAP-IG, Hanna et al. 2024, arXiv 2403.17806).
    Scores sum to the separation of the full model less that of the empty circuit; by
    Gauss-Legendre quadrature exactly so where the separation is a polynomial of degree below
    ``2 * points`` on the way, as in a network linear in its gates. One forward pass for each
    point, and a backward pass for each point and class.

    Parameters
    ----------
    points
        Points of the quadrature, at least 1.
    size
        Size rule: how many of the best units are taken.

    Raises
    ------
    ValueError
        If there is no point.
    """

    points: int = 5
    name: ClassVar[str] = "integrated"

    size: SizeRule = field(default_factory=default_size)

    def __post_init__(self) -> None:
        require_at_least(1, "method 'integrated'", points=self.points)

    def unit_scores(self, searched: SearchedModel) -> Tensor:
        """The integral of the gradient over the path, for each unit and class."""
        nodes, weights = np.polynomial.legendre.leggauss(self.points)  # on [-1, 1]
        total = torch.zeros(searched.n_classes, searched.n_units)
        for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
            gates = torch.full((searched.n_units,), (node + 1.0) / 2.0)
            total += weight / 2.0 * shared_gradients(searched, gates)
        return total
