"""Iterative attribution: scores taken at the circuit that the scores before gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedcircuit.circuits import Site, site_slices
from fedcircuit.circuits.search import (
    SearchedModel,
    SizeRule,
    UnitScored,
    contrast_rows,
    default_size,
    own_gradients,
    shared_gradients,
)
from fedcircuit.ranges import require_at_least, require_between


@dataclass(frozen=True)
class Iterative(UnitScored):
    """Attribution at smaller and smaller circuits, down to a share of the units.

    After FORCE (de Jorge et al. 2020, arXiv 2006.09081), which prunes weights: every round takes
    the gradient at the present circuit and keeps the best units, fewer by the same factor each
    time. A closed unit still has a gradient, so it may come back. The scores are those of the
    last round. The first round, at the full model, costs what attribution does; each further one
    a forward and a backward pass over the samples of every class and its drawn negatives.

    Parameters
    ----------
    rounds
        How often scores are taken, at least 1; 1 is attribution.
    keep
        Share of the units that the circuit of the last round holds, in (0, 1].
    negatives
        Samples of each other class that a class stands against after the first round, at least
        1; drawn once. None is all.
    size
        Size rule: how many of the best units are taken.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    rounds: int = 6
    keep: float = 0.25
    negatives: int | None = 4
    name: ClassVar[str] = "iterative"

    size: SizeRule = field(default_factory=default_size)

    def __post_init__(self) -> None:
        require_at_least(1, "method 'iterative'", rounds=self.rounds, negatives=self.negatives)
        require_between("(0, 1]", "method 'iterative'", keep=self.keep)

    def unit_scores(self, searched: SearchedModel) -> Tensor:
        """Gradient of each class at its circuit of the last round."""
        labels, n_units = searched.samples.labels, searched.n_units
        scores = shared_gradients(searched, torch.ones(n_units))
        rows = contrast_rows(labels, searched.n_classes, self.negatives, searched.generator)
        for size in schedule(n_units, self.keep, self.rounds)[1:]:
            circuits = best_units(scores, searched.sites, size)
            scores = own_gradients(searched, circuits, rows)
        return scores


def schedule(n_units: int, keep: float, rounds: int) -> tuple[int, ...]:
    """Units open in every round: from all to the share ``keep``, by a constant factor."""
    if rounds == 1:
        return (n_units,)
    return tuple(max(1, round(n_units * keep ** (t / (rounds - 1)))) for t in range(rounds))


def best_units(scores: Tensor, sites: Sequence[Site], size: int) -> Tensor:
    """Masks ``[classes, units]`` of the ``size`` best units, and the best of every site.

    Without a unit in every site no path leads through the circuit, and every gradient is zero.
    """
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :size]
    masks = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, best, True)
    for part in site_slices(sites):
        top = scores[:, part].argmax(1, keepdim=True) + part.start
        masks.scatter_(1, top, True)
    return masks
