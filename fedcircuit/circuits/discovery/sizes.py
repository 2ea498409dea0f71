"""From scores to a circuit: how many of the best units are taken."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedcircuit.circuits.circuit import Site, site_slices


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
    some = total.squeeze(1) > 0
    for part in site_slices(sites):
        best = scores[:, part].argmax(1, keepdim=True) + part.start
        masks.scatter_(1, best, masks.gather(1, best) | ~masks[:, part].any(1, keepdim=True))
    return masks & some.unsqueeze(1)
