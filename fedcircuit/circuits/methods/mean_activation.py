"""Mean activation: a baseline that asks what is active, not what matters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedcircuit.circuits.search import SearchedModel, SizeRule, UnitScored, default_size
from fedcircuit.circuits.sites import capture
from fedcircuit.logits import logits_of


@dataclass(frozen=True)
class MeanActivation(UnitScored):
    """Mean activation of a unit on the samples of the class, over positions: a baseline.

    One forward pass. It knows no other class, so what is active everywhere comes first, and it
    does not depend on the ablation.

    Parameters
    ----------
    size
        Size rule: how many of the best units are taken.
    """

    name: ClassVar[str] = "mean-activation"

    size: SizeRule = field(default_factory=default_size)

    def unit_scores(self, searched: SearchedModel) -> Tensor:
        """Mean activations; NaN rows for classes without samples."""
        samples, sites = searched.samples, searched.sites
        sums = torch.zeros(searched.n_classes, searched.n_units)
        for part in searched.passes(len(samples), graph=False):
            with torch.no_grad(), capture(searched.model, sites) as seen:
                logits_of(searched.model, samples.inputs[part])
            means = []
            for site in sites:
                activation = seen[site.name].movedim(site.axis, 1)  # [n, units, ...]
                means.append(activation.flatten(2).mean(2) if activation.ndim > 2 else activation)
            sums.index_add_(0, samples.labels[part], torch.cat(means, dim=1).to(sums))
            searched.meter.forward += len(part)
        return sums / samples.counts(searched.n_classes).unsqueeze(1)
