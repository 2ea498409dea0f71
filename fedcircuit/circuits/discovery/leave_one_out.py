"""Leave-one-out: what a class loses when one unit alone is ablated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.discovery.gradients import separation_weights
from fedcircuit.circuits.discovery.protocol import Meter, Task
from fedcircuit.circuits.discovery.scored import Scored, SizeRule, default_size
from fedcircuit.circuits.masking import masked_model

_LOGITS = 2**22  # logits held at a time: bounds the memory


@dataclass(frozen=True)
class LeaveOneOut(Scored):
    """Separation of the full model less that of the model without the unit: exact, and slow.

    The node form of ACDC (Conmy et al. 2023, arXiv 2304.14997), without its order of visits. One
    forward pass more than there are units serves all classes. It cannot see units that stand in
    for each other.

    Parameters
    ----------
    batch
        Most rows (one circuit on one sample) in one forward pass: bounds the memory.
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
        if self.batch < 1:
            raise ValueError(f"batch must be >= 1, got {self.batch} (method 'leave-one-out')")

    def scores(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Tensor:
        """What each class loses with each unit."""
        samples, n_units = task.samples, sum(site.n_units for site in sites)
        weights = torch.stack(
            [separation_weights(samples.labels, task.n_classes, c) for c in range(task.n_classes)]
        ).double()  # [classes, n, classes]
        ready = masked_model(model, sites, samples.inputs, task.reference, batch=self.batch)
        # the full model first, then without each unit; it runs as they do, so rounding cancels
        masks = torch.cat([torch.ones(1, n_units), 1 - torch.eye(n_units)]).bool()
        at_once = max(1, _LOGITS // (len(samples) * task.n_classes))
        separations = []
        for part in torch.split(masks, at_once):
            logits = ready.logits(part)  # [masks, n, classes]
            separations.append(torch.einsum("mnj,cnj->cm", logits.double(), weights))
            meter.forward += len(part) * len(samples)
        separation = torch.cat(separations, dim=1)  # [classes, 1 + units]
        return (separation[:, :1] - separation[:, 1:]).float()
