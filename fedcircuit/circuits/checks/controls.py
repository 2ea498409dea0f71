"""Random circuits of the same size in every layer, and what they do: the control of every check.

They take most of the time of the checks, so each is run on no more samples than it needs: on half
of them where that half decides, and removed on a part of them, all parts together being all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits import Site, split_by_site
from fedcircuit.circuits.checks.measures import high_quantile
from fedcircuit.circuits.checks.subject import CheckedModel
from fedcircuit.circuits.masking import paired
from fedcircuit.circuits.search import ranks
from fedcircuit.logits import predicted
from fedcircuit.ranges import require_at_least, require_between

_MARGIN = 0.15  # about three standard errors of a balanced accuracy on half of the samples
_FEW = 16  # samples of a class of which half would be too few
_PARTS = 3  # in which the samples are dealt to random removals
Generators = torch.Generator | Sequence[torch.Generator]  # one, or one for each of several models


@dataclass(frozen=True)
class Controls:
    """How circuits are compared with random ones.

    Parameters
    ----------
    count
        Random circuits for each circuit; 0 leaves the comparison out (NaN).
    negatives
        Samples of other classes on which the FPR of a control, and the collateral damage of a
        knock-out, are measured, evenly spaced over the classes; half as many where a few
        random units are removed.
    removals
        Random draws that each selective necessity is compared with; none where ``count`` is 0.
    quantile
        Quantile of the controls' balanced accuracy a circuit must exceed: the next higher observed
        value. With ``1 / (1 - quantile)`` controls or fewer that is the largest of them, and the
        comparison is a test at level ``1 / (count + 1)``, not at ``1 - quantile``.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    count: int = 6
    negatives: int = 45
    removals: int = 4
    quantile: float = 0.95

    def __post_init__(self) -> None:
        require_at_least(0, "controls of the circuits", count=self.count)
        require_at_least(1, "controls", negatives=self.negatives)
        require_at_least(0, "controls", removals=self.removals)
        require_between("(0, 1]", "controls", quantile=self.quantile)


@dataclass(frozen=True)
class Rivals:
    """Circuits that random ones are to be compared with.

    Parameters
    ----------
    masks, tasks
        ``[rows, units]`` bool, and the class of each row (`CheckedModel`).
    balanced_accuracy
        What each reaches alone, ``[rows]``.
    """

    masks: Tensor
    tasks: Tensor
    balanced_accuracy: Tensor


@dataclass(frozen=True)
class ControlResult:
    """What random circuits do in place of each circuit, ``[rows]`` float64; NaN without controls.

    Parameters
    ----------
    balanced_accuracy
        A high quantile of their balanced accuracy, see `Controls`.
    necessity
        Mean drop of the class's recall when their units are ablated.
    """

    balanced_accuracy: Tensor
    necessity: Tensor


def random_like(
    masks: Tensor, live: Tensor, sites: Sequence[Site], count: int, generator: torch.Generator
) -> Tensor:
    """Random masks with as many units in every site as the given ones, ``[count, rows, units]``.

    Units are drawn uniformly from the live ones: a dead unit would make the control too weak.
    Where a mask has more units than are live, the rest comes from the dead ones.

    Parameters
    ----------
    masks, live
        ``[rows, units]`` bool and ``[units]`` bool.
    sites, count
        The sites, and how many random masks to draw for each row.
    generator
        Source of the random draws.
    """
    drawn = torch.rand((count, *masks.shape), generator=generator, dtype=torch.float64)
    return _ranked(masks, drawn + live, sites)


def random_rivals(
    subject: CheckedModel,
    masks: Tensor,
    tasks: Tensor,
    count: int,
    generators: Generators,
) -> Tensor:
    """Random masks in the place of each (`random_like`), ``[count, rows, units]``.

    Every model draws from a generator of its own, so that what it draws does not depend on the
    models it is checked with.
    """
    owners = subject.split(tasks)[0]
    every = [generators] if isinstance(generators, torch.Generator) else generators
    lives = subject.live.reshape(subject.n_models, -1)[owners]
    drawn = []
    for _ in range(count):  # one draw at a time: tables of numbers take 64 times what masks do
        order = torch.empty(masks.shape, dtype=torch.float64)
        for owner, generator in enumerate(every):
            rows = (owners == owner).nonzero().flatten()
            if len(rows):
                shape = len(rows), masks.shape[1]
                order[rows] = torch.rand(shape, generator=generator, dtype=torch.float64)
        drawn.append(_ranked(masks, order + lives, subject.sites))
    return torch.stack(drawn) if drawn else torch.zeros((0, *masks.shape), dtype=torch.bool)


def _ranked(masks: Tensor, order: Tensor, sites: Sequence[Site]) -> Tensor:
    """In every site as many units as the masks have, those first in order (largest)."""
    sizes = {name: part.sum(-1) for name, part in split_by_site(masks, sites).items()}
    return torch.cat(
        [ranks(part) < sizes[name][:, None] for name, part in split_by_site(order, sites).items()],
        dim=-1,
    )


def run_controls(
    subject: CheckedModel,
    rivals: Rivals,
    controls: Controls,
    generators: Generators,
) -> ControlResult:
    """Keep, and remove, random circuits in place of each circuit.

    Parameters
    ----------
    subject
        The model on the checking samples.
    rivals
        The circuits, and what they reach.
    controls, generators
        How many, and the source of the random draws: one, or one for each of several models.
    """
    if not controls.count:
        nothing = torch.full((len(rivals.masks),), torch.nan, dtype=torch.float64)
        return ControlResult(nothing, nothing.clone())
    randoms = random_rivals(subject, rivals.masks, rivals.tasks, controls.count, generators)
    accuracy = _accuracies(subject, randoms, rivals, controls)
    return ControlResult(
        high_quantile(accuracy, controls.quantile), _losses(subject, randoms, rivals.tasks)
    )


def dealt(samples: Tensor, n_own: int, parts: int) -> list[Tensor]:
    """Samples dealt to parts, those of the class (the first ``n_own``) as evenly as the others.

    Where the class has too few samples every part is all of them.
    """
    if n_own < max(_FEW, parts):
        return [samples] * parts
    own, others = samples[:n_own], samples[n_own:]
    return [torch.cat([own[part::parts], others[part::parts]]) for part in range(parts)]


def _accuracies(
    subject: CheckedModel, randoms: Tensor, rivals: Rivals, controls: Controls
) -> Tensor:
    """Balanced accuracy of random circuits ``[count, rows]``.

    On half of the samples; and on all of them where that could change the comparison: where the
    circuit is not clearly better than the quantile, for the random circuits that are not clearly
    below it.
    """
    n_own = subject.counts[subject.split(rivals.tasks)[1]].tolist()
    samples = subject.contrasts(rivals.tasks, controls.negatives)
    halves = [dealt(part, own, 2) for part, own in zip(samples, n_own, strict=True)]
    count, rows = randoms.shape[:2]
    masks, tasks = randoms.flatten(0, 1), rivals.tasks.repeat(count)
    first, second = ([half[part] for half in halves] * count for part in range(2))
    tally = _tally(subject, masks, tasks, first)
    accuracy = _balanced(tally).reshape(count, rows)
    level = high_quantile(accuracy, controls.quantile)
    close = (rivals.balanced_accuracy < level + _MARGIN) & (accuracy >= level - _MARGIN)
    whole = torch.tensor([half[0] is half[1] for half in halves])
    again = (close & ~whole).flatten().nonzero().flatten()
    if len(again):
        rest = [second[index] for index in again.tolist()]
        tally[again] += _tally(subject, masks[again], tasks[again], rest)
    return _balanced(tally).reshape(count, rows)


def _losses(subject: CheckedModel, randoms: Tensor, tasks: Tensor) -> Tensor:
    """Mean drop of the class's recall when random circuits are ablated, ``[rows]``."""
    owners, classes = (part.tolist() for part in subject.split(tasks))
    n, places = subject.n_samples, subject.labels[: subject.n_samples]
    own = {c: (places == c).nonzero().flatten() for c in set(classes)}
    parts = [
        [part + owner * n for part in dealt(own[c], len(own[c]), _PARTS)]
        for owner, c in zip(owners, classes, strict=True)
    ]
    count, rows = randoms.shape[:2]
    samples = [part[draw % _PARTS] for draw in range(count) for part in parts]
    tally = _tally(subject, ~randoms.flatten(0, 1), tasks.repeat(count), samples)
    which, chosen = paired(samples)
    hits = torch.bincount(which, weights=subject.hits[chosen].double(), minlength=len(samples))
    before = hits / tally[:, 1]
    return (before - tally[:, 0] / tally[:, 1]).reshape(count, rows).mean(0)


def _tally(
    subject: CheckedModel, masks: Tensor, tasks: Tensor, samples: Sequence[Tensor]
) -> Tensor:
    """Of each mask's samples: own ones assigned, own ones, others assigned, others; float64."""
    which, chosen = paired(samples)
    wanted = subject.split(tasks)[1][which]
    own = subject.labels[chosen] == wanted
    assigned = predicted(subject.masked.pair_logits(masks, which, chosen)) == wanted
    columns = torch.stack([assigned & own, own, assigned & ~own, ~own], dim=1).double()
    return torch.zeros(len(masks), 4, dtype=torch.float64).index_add_(0, which, columns)


def _balanced(tally: Tensor) -> Tensor:
    return (tally[:, 0] / tally[:, 1] + 1 - tally[:, 2] / tally[:, 3]) / 2
