"""Contrastive gradient attribution: every unit and every class from a few passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from fedcircuit.circuits.search import (
    Effects,
    Faithful,
    SearchedModel,
    SizeRule,
    UnitScored,
    against_others,
    contrast_of_logits,
    first_places,
    mean_effects,
    summed_effects,
)
from fedcircuit.circuits.sites import site_graph
from fedcircuit.ranges import require_at_least
from fedcircuit.samples import Samples

# places [k] of samples, and target classes [k] of each pass
MeanEffects = Callable[[Tensor, Sequence[Tensor]], Iterator[Effects]]


@dataclass(frozen=True)
class Attribution(UnitScored):
    """Gradient times (activation minus reference) of a contrast between classes.

    For class c and its contrast ``t_c`` (`fedcircuit.circuits.search.contrast`) the first-order
    effect of keeping unit u on a sample is ``dt_c/da_u (a_u - reference_u)`` (attribution patching:
    Syed et al. 2023, arXiv 2310.10348). A unit's score is its mean effect on samples of c, less
    that on samples of other classes: half of it the class that the unit separates c from most, half
    the average of all (`fedcircuit.circuits.search.against_others`). The size is
    searched for, see `Faithful`.

    Parameters
    ----------
    size
        How many of the best units make a circuit.
    positives
        Samples of every class on which its own contrast is differentiated, in one backward pass
        for all classes together; None takes all.
    negatives
        Samples in all, evenly many of every class, on which the contrasts of all other classes
        are differentiated, in one backward pass for each class; None takes all.
    confidence
        Standard errors by which a unit's effect must exceed zero, against all other classes
        together or, half as many more, against a single one. Loud units whose effect averages out
        (pairs that cancel each other) do not pass for important ones.
    max_jacobian_classes
        Beyond this many classes all contrasts share one pass over ``1 + copies`` copies of every
        sample, and a unit's effect is averaged over the other classes.
    copies
        Other classes that each sample stands against in that form.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    name: ClassVar[str] = "attribution"

    size: SizeRule = field(default_factory=Faithful)
    positives: int | None = None
    negatives: int | None = 100
    confidence: float = 2.0
    max_jacobian_classes: int = 20
    copies: int = 4

    def __post_init__(self) -> None:
        require_at_least(1, positives=self.positives, negatives=self.negatives, copies=self.copies)

    def unit_scores(self, searched: SearchedModel) -> Tensor:
        """Effects against the other classes, ``[classes, units]``."""
        if searched.n_classes > self.max_jacobian_classes:
            return _row_scores(searched, self.copies)

        def effects(places: Tensor, targets: Sequence[Tensor]) -> Iterator[Effects]:
            return mean_effects(replace(searched, task=searched.task.take(places)), targets)

        return self.scores_of(effects, searched.samples.labels, searched.n_classes)

    def scores_of(self, effects: MeanEffects, labels: Tensor, n_classes: int) -> Tensor:
        """Scores ``[..., classes, units]`` of mean effects.

        Parameters
        ----------
        effects
            Mean effects on samples at chosen places, for each choice of their target classes.
        labels, n_classes
            ``[n]`` int64, of all samples; number of classes.
        """
        n, own = len(labels), None
        each = n if self.negatives is None else -(-self.negatives // n_classes)
        few = first_places(labels, each, n_classes)
        many = first_places(labels, self.positives or n, n_classes)
        if len(many) != len(few):
            (own,) = effects(many, [labels[many]])
        present = torch.bincount(labels[few], minlength=n_classes) > 0
        passes = effects(few, [torch.full_like(few, c) for c in range(n_classes)])
        scores = [self._score(own or found, found, c, present) for c, found in enumerate(passes)]
        return torch.stack(scores, dim=-2)

    def _score(self, own: Effects, other: Effects, c: int, present: Tensor) -> Tensor:
        """Scores of one class ``[..., units]``; not positive where it may be an accident."""
        rest = present.clone()
        rest[c] = False
        mine, noise = own.mean[..., c, :], own.variance[..., c, :]
        if not bool(rest.any()):
            return torch.full_like(mine, torch.nan)
        theirs, noises = other.mean[..., rest, :], other.variance[..., rest, :]
        effect = mine.unsqueeze(-2) - theirs  # [..., others, units]
        error = noise.unsqueeze(-2) + noises
        mean_error = noise + noises.sum(-2) / int(rest.sum()) ** 2
        together = effect.mean(-2) - self.confidence * mean_error.sqrt()
        alone = effect - 1.5 * self.confidence * error.sqrt()  # stricter: one of many comparisons
        score = against_others(mine, theirs)
        sure = (together > 0) | (alone > 0).any(-2)
        return torch.where(sure, score, score.clamp(max=0))


def _row_scores(searched: SearchedModel, negatives: int) -> Tensor:
    samples, sites, n_classes = searched.samples, searched.sites, searched.n_classes
    rows, targets, weights = _rows(samples, n_classes, negatives, searched.generator)
    total = torch.zeros(n_classes, searched.n_units)
    for part in searched.passes(len(rows), graph=True):
        few = rows[part]
        logits, seen = site_graph(searched.model, sites, samples.inputs[few])
        contrast = contrast_of_logits(samples.labels[few], targets[part], n_classes)
        contrast = contrast * weights[part].unsqueeze(1)
        total_contrast = (logits * contrast.to(logits)).sum()
        gradients = torch.autograd.grad(total_contrast, [seen[site.name] for site in sites])
        searched.meter.forward += len(part)
        searched.meter.backward += len(part)
        effects = summed_effects(gradients, seen, sites, searched.reference(few)).to(total)
        total.index_add_(0, targets[part], effects)
    return total


def _rows(
    samples: Samples, n_classes: int, negatives: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample, target class and weight of every copy: its own class, and drawn other classes."""
    labels, n = samples.labels, len(samples)
    present = (samples.counts(n_classes) > 0).nonzero().flatten()
    drawn = min(negatives, len(present) - 1)
    order = torch.rand(n, len(present), generator=generator)
    order[labels.unsqueeze(1) == present] = 2.0  # never its own class
    others = present[order.argsort(1)[:, : max(0, drawn)]]  # [n, drawn]
    rows = torch.arange(n).repeat_interleave(1 + others.shape[1])
    targets = torch.cat([labels.unsqueeze(1), others], dim=1).flatten()
    own = targets == labels[rows]
    pairs = targets * n_classes + labels[rows]  # every (target, label) pair weighs the same
    each = 1.0 / torch.bincount(pairs, minlength=n_classes**2)[pairs]
    partners = torch.zeros(n_classes, n_classes, dtype=torch.bool)
    partners[targets[~own], labels[rows[~own]]] = True
    share = partners.sum(1).clamp(min=1)[targets]
    return rows, targets, torch.where(own, each, -each / share)
