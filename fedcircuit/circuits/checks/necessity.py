"""Whether a class hangs on the few best units of its circuit: selective necessity.

Ablating a whole circuit says little in a dense network, where random units of that number do the
same harm. Ablating its few best units says more: they are the circuit's own if the class suffers,
the other classes do not, and as many random units do less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits.checks.controls import Controls, Generators, dealt, random_rivals
from fedcircuit.circuits.checks.knockout import recall_drops
from fedcircuit.circuits.checks.subject import CheckedModel
from fedcircuit.circuits.search import ranks
from fedcircuit.ranges import require_between


@dataclass(frozen=True)
class SelectiveNecessity:
    """What ablating a few units of each circuit does; float64, NaN where undefined.

    Parameters
    ----------
    own
        ``[rows]``, drop of the recall of the circuit's own class.
    others
        ``[rows, classes]``, drop of the recall of every other class that the model recognises;
        NaN for the circuit's own class and for those it does not recognise.
    null
        ``[draws, rows]``, selective necessity of as many random units of the same sites, every
        draw on its own part of the samples (`fedcircuit.circuits.checks.controls.dealt`): the
        spread over draws is also that of the samples.
    """

    own: Tensor
    others: Tensor
    null: Tensor

    @property
    def collateral(self) -> Tensor:
        """Mean drop of the other classes, ``[rows]``; NaN if there is none."""
        return self.others.nanmean(-1)

    @property
    def value(self) -> Tensor:
        """Drop of the own class less the collateral, ``[rows]``, in [-2, 2]."""
        return self.own - self.collateral

    @property
    def null_mean(self) -> Tensor:
        """Mean of the random draws, ``[rows]``; NaN without draws."""
        return self.null.mean(0)


def best_units(masks: Tensor, scores: Tensor, share: float) -> Tensor:
    """The best units of each circuit, ``[rows, units]`` bool.

    A share of the circuit's units, rounded up, so at least one; of equal scores the first unit.
    None where the circuit is empty, or one of its units has no score.

    Parameters
    ----------
    masks, scores
        ``[rows, units]`` bool, and ``[rows, units]`` float, larger is more important.
    share
        In (0, 1].

    Raises
    ------
    ValueError
        If the share is out of range.
    """
    require_between("(0, 1]", "best units of a circuit", share=share)
    inside = torch.where(masks, scores.double(), -torch.inf)
    # less a hair: 0.07 * 100 is 7.000000000000001 in floating point
    wanted = [math.ceil(share * size - 1e-9) for size in masks.sum(1).tolist()]
    ranked = ~(masks & scores.isnan()).any(1, keepdim=True)
    # a score may be minus infinity, like the units outside: these are never taken
    return (ranks(inside) < torch.tensor(wanted, dtype=torch.int64)[:, None]) & ranked & masks


def selective_necessity(
    subject: CheckedModel,
    removed: Tensor,
    tasks: Tensor,
    controls: Controls,
    generators: Generators,
) -> SelectiveNecessity:
    """Ablate a few units of each circuit, then random ones, and see which classes suffer.

    Random units are drawn from the live ones of the same sites, as many in each site.

    Parameters
    ----------
    subject
        The model on the checking samples.
    removed, tasks
        ``[rows, units]`` bool, the units to ablate (`best_units`), and the class of each row
        (`CheckedModel`). A row without units is undefined.
    controls
        How many random draws; samples of other classes, of which the draws take half.
    generators
        Source of the random draws, or one for each of several models.
    """
    n_classes, n_rows = len(subject.counts), len(removed)
    draws = controls.removals if controls.count else 0
    result = SelectiveNecessity(
        torch.full((n_rows,), torch.nan, dtype=torch.float64),
        torch.full((n_rows, n_classes), torch.nan, dtype=torch.float64),
        torch.full((draws, n_rows), torch.nan, dtype=torch.float64),
    )
    owners, classes = subject.split(tasks)
    others = subject.recognised.reshape(-1, n_classes)[owners]
    others[torch.arange(n_rows), classes] = False
    defined = (removed.any(1) & others.any(1)).nonzero().flatten()
    if not len(defined):
        return result
    wanted, own, others = tasks[defined], classes[defined], others[defined]
    randoms = random_rivals(subject, removed[defined], wanted, draws, generators)
    masks = torch.cat([removed[defined][None], randoms]).flatten(0, 1)
    few = subject.contrasts(wanted, (controls.negatives + 1) // 2)
    n_own = subject.counts[own].tolist()
    parts = [dealt(part, n, draws) for part, n in zip(few, n_own, strict=True)]
    each = subject.contrasts(wanted, controls.negatives)
    each += [part[draw] for draw in range(draws) for part in parts]
    drops = recall_drops(subject, ~masks, each).reshape(1 + draws, len(defined), n_classes)
    mine = drops.gather(-1, own.expand(1 + draws, -1)[..., None])[..., 0]
    theirs = torch.where(others, drops, torch.nan)
    result.own[defined], result.others[defined] = mine[0], theirs[0]
    result.null[:, defined] = mine[1:] - theirs[1:].nanmean(-1)
    return result
