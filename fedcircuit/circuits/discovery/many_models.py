"""The default method on many models at once: same scores, same search for sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits.masking import Ablation, Stack, class_balanced, masked_models
from fedcircuit.circuits.methods import Attribution
from fedcircuit.circuits.search import (
    Effects,
    Faithful,
    absent_reasons,
    contrast_of_logits,
    first_places,
    reasons_for,
)
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class StackedCircuits:
    """Circuits of all models, ``[models, classes, ...]``, with the reference of the ablation.

    Parameters
    ----------
    masks, found, scores
        ``[models, classes, units]`` bool, ``[models, classes]`` bool, and
        ``[models, classes, units]``.
    reasons
        For each model one for each class, empty where a circuit was found.
    reference
        For each site ``[models, 1, units]``; None is zero.
    """

    masks: Tensor
    found: Tensor
    scores: Tensor
    reasons: tuple[tuple[str, ...], ...]
    reference: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class _Seen:
    """What the models show of samples: activations of the first site, labels, reference."""

    stack: Stack
    first: Tensor
    labels: Tensor
    reference: tuple[Tensor, ...] | None
    n_classes: int

    def effects(self, places: Tensor, targets: Sequence[Tensor]) -> Iterator[Effects]:
        """Mean effects on each choice of target classes, ``[models, classes, units]``.

        As `fedcircuit.circuits.search.mean_effects`, all models in one pass.
        """
        labels = self.labels[places]
        members = torch.nn.functional.one_hot(labels, self.n_classes).to(self.first)
        leaf = self.first[:, places].detach().requires_grad_()
        with torch.enable_grad():
            *others, logits = self.stack.behind(leaf)
        activations = [leaf, *others]
        changes = [part.detach() for part in activations]
        if self.reference is not None:
            pairs = zip(changes, self.reference, strict=True)
            changes = [change - reference for change, reference in pairs]
        for index, target in enumerate(targets):
            weights = contrast_of_logits(labels, target, self.n_classes).to(logits)
            contrast, more = (logits * weights).sum(), index + 1 < len(targets)
            gradients = torch.autograd.grad(contrast, activations, retain_graph=more)
            parts = [g * change for g, change in zip(gradients, changes, strict=True)]
            effects = torch.cat(parts, dim=-1)  # [models, n, units]
            total, squares = members.T @ effects, members.T @ effects.square()
            yield Effects.summed(total.cpu(), squares.cpu(), members.sum(0).cpu())


def takes(method: object, n_classes: int, ablation: Ablation) -> bool:
    """Whether `stacked_circuits` does what this method does, with this ablation."""
    return (
        type(method) is Attribution
        and type(method.size) is Faithful
        and n_classes <= method.max_jacobian_classes
        and ablation != "resample"
    )


def stacked_circuits(
    stack: Stack, samples: Samples, method: Attribution, *, n_classes: int, ablation: Ablation
) -> StackedCircuits:
    """Circuits of all classes of all models, as the method finds them one by one.

    Parameters
    ----------
    stack
        The models.
    samples
        What circuits are found on.
    method, n_classes, ablation
        The method, for which `takes` holds, number of classes, and what an ablated unit becomes.
    """
    first = stack.first(samples.inputs.to(stack.weights[0]))
    *others, logits = stack.behind(first)
    labels = samples.labels.cpu()
    reference = None
    if ablation == "mean":
        reference = _class_means([first, *others], labels, n_classes)
    seen = _Seen(stack, first, labels, reference, n_classes)
    absent = absent_reasons(samples.counts(n_classes))
    known = torch.tensor([not reason for reason in absent])
    scores = torch.full((len(stack), n_classes, _n_units(stack)), torch.nan)
    masks = torch.zeros_like(scores, dtype=torch.bool)
    if bool(known.any()):
        given = method.scores_of(seen.effects, labels, n_classes)  # [models, classes, units]
        scores[:, known] = given[:, known].to(scores)
        assert isinstance(method.size, Faithful)
        places = first_places(labels, method.size.samples_per_class, n_classes)
        masked = masked_models(stack, first[:, places], logits[:, places], reference)
        sizing, _ = method.size.search(masked, labels[places], scores.flatten(0, 1))
        masks = sizing.masks.reshape(masks.shape)
    found = masks.any(-1) & known
    reasons = tuple(reasons_for(row, absent) for row in found)
    return StackedCircuits(masks & found[..., None], found, scores, reasons, reference)


def _class_means(
    activations: Sequence[Tensor], labels: Tensor, n_classes: int
) -> tuple[Tensor, ...]:
    """Means within and then over the classes that have samples, ``[models, 1, units]`` a site."""
    weights = class_balanced(labels, n_classes).to(activations[0])
    return tuple((weights @ part).unsqueeze(1) for part in activations)


def _n_units(stack: Stack) -> int:
    return sum(site.n_units for site in stack.layers.sites)
