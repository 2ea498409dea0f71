"""Leave-one-out: what a class loses when one unit alone is ablated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedcircuit.circuits.masking import masked_model
from fedcircuit.circuits.search import (
    SearchedModel,
    SizeRule,
    UnitScored,
    default_size,
    separation_weights,
)
from fedcircuit.ranges import require_at_least


@dataclass(frozen=True)
class LeaveOneOut(UnitScored):
    """Separation of the full model less that of the model without the unit: exact, and slow.

    The node form of ACDC (Conmy et al. 2023, arXiv 2304.14997), without its order of visits. One
    forward pass more than there are units serves all classes. It cannot see units that stand in
    for each other.

    Parameters
    ----------
    batch
        Most rows (one circuit on one sample) in one forward pass; fewer where the task's memory
        asks for it.
    size
        Size rule: how many of the best units are taken.

    Raises
    ------
    ValueError
        If a batch holds no row.
    """

    batch: int = 256
    name: ClassVar[str] = "leave-one-out"

    size: SizeRule = field(default_factory=default_size)

    def __post_init__(self) -> None:
        require_at_least(1, "method 'leave-one-out'", batch=self.batch)

    def unit_scores(self, searched: SearchedModel) -> Tensor:
        """What each class loses with each unit."""
        samples, n_classes, n_units = searched.samples, searched.n_classes, searched.n_units
        weights = torch.stack(
            [separation_weights(samples.labels, n_classes, c) for c in range(n_classes)]
        ).double()  # [classes, n, classes]
        memory = searched.memory
        ready = masked_model(
            searched.model,
            searched.sites,
            samples.inputs,
            searched.task.reference,
            batch=self.batch,
            memory=memory,
        )
        # twelve bytes a logit: one of four and its double
        row = 12 * len(samples) * n_classes + n_units
        separations = []
        for part in torch.split(torch.arange(1 + n_units), memory.held(row, most=1 + n_units)):
            # the full model first, then without each unit; it runs as they do, so rounding cancels
            masks = torch.arange(n_units) != part[:, None] - 1
            logits = ready.logits(masks)  # [masks, n, classes]
            separations.append(torch.einsum("mnj,cnj->cm", logits.double(), weights))
            searched.meter.forward += len(part) * len(samples)
        separation = torch.cat(separations, dim=1)  # [classes, 1 + units]
        return (separation[:, :1] - separation[:, 1:]).float()
