"""Mean activation: a baseline that asks what is active, not what matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.search import Meter, Scored, SizeRule, Task, default_size
from fedcircuit.circuits.sites import capture
from fedcircuit.logits import logits_of


@dataclass(frozen=True)
class MeanActivation(Scored):
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

    def scores(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Tensor:
        """Mean activations; NaN rows for classes without samples."""
        samples = task.samples
        sums = torch.zeros(task.n_classes, sum(site.n_units for site in sites))
        rows = task.memory_of(model, sites).rows(graph=False)
        for part in torch.split(torch.arange(len(samples)), rows):
            with torch.no_grad(), capture(model, sites) as seen:
                logits_of(model, samples.inputs[part])
            means = []
            for site in sites:
                activation = seen[site.name].movedim(site.axis, 1)  # [n, units, ...]
                means.append(activation.flatten(2).mean(2) if activation.ndim > 2 else activation)
            sums.index_add_(0, samples.labels[part], torch.cat(means, dim=1).to(sums))
            meter.forward += len(part)
        return sums / samples.counts(task.n_classes).unsqueeze(1)
