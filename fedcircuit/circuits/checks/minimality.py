"""Whether a circuit could do without any of its units: minimality."""

from __future__ import annotations

import torch
from torch import Tensor

from fedcircuit.circuits.checks.subject import CheckedModel
from fedcircuit.circuits.search import separations
from fedcircuit.ranges import require_at_least

_ROWS = 256  # circuits in one call


def minimality(
    subject: CheckedModel,
    masks: Tensor,
    tasks: Tensor,
    *,
    negatives: int,
    threshold: float = 0.01,
) -> Tensor:
    """Share of each circuit's units that it cannot do without, ``[rows]`` float64 in [0, 1].

    Every unit is ablated alone, the rest of the circuit stays. What is measured is the separation
    (`fedcircuit.circuits.search.contrast`) from the class that the circuit separates worst, as a
    share of the full model's, so that a unit needed against one class alone counts. A unit is
    needed if that falls by more than ``threshold``. NaN where the circuit is empty, or the full
    model separates the class from no class that it recognises. It costs as many circuits as there
    are units.

    Parameters
    ----------
    subject
        The model on the checking samples.
    masks, tasks
        ``[rows, units]`` bool, and the class of each row (`CheckedModel`).
    negatives
        Most samples of other classes.
    threshold
        Share of the full model's separation.

    Raises
    ------
    ValueError
        If the threshold is negative.
    """
    require_at_least(0, "minimality", threshold=threshold)
    result = torch.full((len(masks),), torch.nan, dtype=torch.float64)
    recognised = subject.recognised.reshape(subject.n_models, -1)
    owners, classes = (part.tolist() for part in subject.split(tasks))
    every = subject.contrasts(tasks, negatives)
    for row, (mask, c, samples) in enumerate(zip(masks, classes, every, strict=True)):
        full = _separations(subject, torch.ones_like(mask)[None], samples, c)[0]
        counted = recognised[owners[row]] & (full > 0)  # NaN of the class itself is not
        members = mask.nonzero().flatten()
        if not len(members) or not bool(counted.any()):
            continue
        found = []
        without = torch.cat([torch.full((1,), -1), members])  # the whole circuit first
        for part in torch.split(without, _ROWS):
            trials = mask & (torch.arange(len(mask)) != part[:, None])
            found.append(_separations(subject, trials, samples, c))
        worst = (torch.cat(found) / full)[:, counted].amin(1)
        result[row] = (worst[0] - worst[1:] > threshold).double().mean()
    return result


def _separations(subject: CheckedModel, masks: Tensor, samples: Tensor, class_index: int) -> Tensor:
    """Separation of the class from every other under each mask, ``[masks, classes]``."""
    logits = torch.stack(subject.runs(masks, [samples] * len(masks)))
    return separations(logits, subject.labels[samples], torch.full((len(masks),), class_index))
