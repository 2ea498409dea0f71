"""The best units of every class, by score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedcircuit.circuits import Site, site_slices


def ranks(values: Tensor) -> Tensor:
    """Place of each value along the last axis, 0 for the largest, the first of equals; int64."""
    order = values.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(values.shape[-1]).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)


def mass_rule(scores: Tensor, sites: Sequence[Site], *, share: float) -> Tensor:
    """Masks of the fewest units that hold ``share`` of each class's positive score mass.

    Parameters
    ----------
    scores
        ``[classes, units]``.
    sites
        Sites the units belong to; every site keeps at least its best unit, without which no
        path would lead through it.
    share
        In (0, 1].

    Returns
    -------
    Tensor
        ``[classes, units]`` bool; all False for a class without any positive score.
    """
    positive = scores.clamp(min=0)
    ordered, order = positive.sort(dim=1, descending=True, stable=True)
    total = ordered.sum(1, keepdim=True)
    before = ordered.cumsum(1) - ordered  # mass ahead of each unit
    kept = (before < share * total) & (ordered > 0)
    masks = torch.zeros_like(kept).scatter_(1, order, kept)
    return _one_in_each_site(masks, scores, sites) & (total > 0)


def top_units(scores: Tensor, sizes: Tensor, sites: Sequence[Site]) -> Tensor:
    """Masks of each row's best units, at least the best one of every site.

    Parameters
    ----------
    scores
        ``[rows, units]``; units without a positive score are never taken for their rank.
    sizes
        ``[rows]`` int64, how many.
    sites
        Sites the units belong to.
    """
    masks = (ranks(scores) < sizes[:, None]) & (scores > 0)
    return _one_in_each_site(masks, scores, sites)


def _one_in_each_site(masks: Tensor, scores: Tensor, sites: Sequence[Site]) -> Tensor:
    masks = masks.clone()
    for part in site_slices(sites):
        best = scores[:, part].argmax(1, keepdim=True) + part.start
        masks.scatter_(1, best, masks.gather(1, best) | ~masks[:, part].any(1, keepdim=True))
    return masks
