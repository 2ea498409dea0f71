"""What ablating units costs every class: the drop of its recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits.checks.subject import CheckedModel
from fedcircuit.circuits.masking import paired
from fedcircuit.logits import predicted


@dataclass(frozen=True)
class KnockOut:
    """What the removal of a circuit does, ``[rows]`` float64.

    Parameters
    ----------
    necessity
        Drop of the recall of the circuit's own class.
    collateral
        Mean drop of the recall of the other classes; NaN if there is none.
    """

    necessity: Tensor
    collateral: Tensor


def knock_out(subject: CheckedModel, masks: Tensor, tasks: Tensor, *, negatives: int) -> KnockOut:
    """Ablate each circuit's units and see which classes suffer.

    Parameters
    ----------
    subject
        The model on the checking samples.
    masks, tasks
        ``[rows, units]`` bool, and the class of each row (`CheckedModel`).
    negatives
        Most samples of other classes for the collateral damage.
    """
    samples = subject.contrasts(tasks, negatives, known=False)
    drops = recall_drops(subject, ~masks, samples)
    own = torch.nn.functional.one_hot(subject.split(tasks)[1], len(subject.counts)).bool()
    return KnockOut(drops[own], torch.where(own, torch.nan, drops).nanmean(-1))


def recall_drops(subject: CheckedModel, masks: Tensor, samples: Sequence[Tensor]) -> Tensor:
    """How much recall every class loses under each mask, ``[rows, classes]`` float64.

    Parameters
    ----------
    subject
        The model on the checking samples.
    masks
        ``[rows, units]`` bool, the units left in place.
    samples
        For each mask the samples it runs on; a class without any is NaN.
    """
    n_classes, (which, chosen) = len(subject.counts), paired(samples)
    labels = subject.labels[chosen]
    right = predicted(subject.masked.pair_logits(masks, which, chosen)) == labels
    lost = subject.hits[chosen].double() - right.double()
    groups, size = which * n_classes + labels, len(masks) * n_classes
    total = torch.bincount(groups, weights=lost, minlength=size)
    return (total / torch.bincount(groups, minlength=size)).reshape(len(masks), n_classes)
