"""Contrastive gradient attribution: every unit and every class in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.discovery.protocol import (
    Discovery,
    Meter,
    Task,
    absent_reasons,
    frozen,
)
from fedcircuit.circuits.discovery.sizes import mass_rule
from fedcircuit.circuits.sites import evaluating, transformed
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class Attribution:
    """Gradient times (activation minus reference) of a contrast between classes.

    The separation of class c is ``sep_c = E[t_c | y = c] - E[t_c | y != c]``, with the centred
    logit ``t_c = z_c - mean_j z_j`` and every other class of equal weight among the negatives. A
    unit's score is the derivative of ``sep_c`` with respect to its gate at 1, that is, the
    first-order effect of ablating it (attribution patching: Syed et al. 2023, arXiv 2310.10348).
    Its size is the smallest that holds ``mass`` of the positive score mass.

    Parameters
    ----------
    mass
        Share of the positive score mass that a circuit holds, in (0, 1].
    max_jacobian_classes
        Up to this many classes: one forward and one backward pass for each class, in which
        every sample serves every class. Beyond it: one forward and one backward pass over
        ``1 + negatives`` copies of every sample, for all classes together.
    negatives
        Other classes that each sample stands against in the second form.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    mass: float = 0.9
    max_jacobian_classes: int = 20
    negatives: int = 4

    def __post_init__(self) -> None:
        if not 0.0 < self.mass <= 1.0:
            raise ValueError(f"mass must lie in (0, 1], got {self.mass}")
        if self.negatives < 1:
            raise ValueError(f"negatives must be >= 1, got {self.negatives}")

    @property
    def name(self) -> str:
        """Name in configurations and records."""
        return "attribution"

    def __call__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
    ) -> Discovery:
        """Circuits of all classes by attribution and the mass rule."""
        meter = Meter()
        reasons = absent_reasons(task.samples.counts(task.n_classes))
        known = torch.tensor([not reason for reason in reasons])
        with evaluating(model), frozen(model):
            if task.n_classes <= self.max_jacobian_classes:
                scores = _jacobian_scores(model, sites, task, meter)
            else:
                scores = _row_scores(model, sites, task, self.negatives, meter, generator)
        scores[~known] = torch.nan
        masks = mass_rule(scores.nan_to_num(0.0), sites, share=self.mass)
        found = masks.any(1) & known
        reasons = tuple(
            reason or ("" if has else "no unit separates the class from the others")
            for reason, has in zip(reasons, found.tolist(), strict=True)
        )
        masks = masks & found.unsqueeze(1)
        none = (None,) * task.n_classes
        return Discovery(tuple(sites), masks, found, scores, reasons, meter.cost(), none)


def contrast_weights(labels: Tensor, n_classes: int) -> Tensor:
    """Weights ``[classes, n]`` whose product with ``t_c`` sums to the separation of class c."""
    counts = torch.bincount(labels, minlength=n_classes)
    present = int((counts > 0).sum())
    each = 1.0 / counts[labels]  # [n]
    own = torch.nn.functional.one_hot(labels, n_classes).T.bool()
    return torch.where(own, each, -each / max(1, present - 1))


def centred(logits: Tensor) -> Tensor:
    """Logits less their mean over the classes, ``[n, classes]``."""
    return logits - logits.mean(1, keepdim=True)


def _run(
    model: nn.Module, sites: Sequence[Site], inputs: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and site activations in a graph that starts at the first site, not before."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Tensor], Tensor]:
        def transform(output: Tensor) -> Tensor:
            seen[name] = output if output.requires_grad else output.detach().requires_grad_()
            return seen[name]

        return transform

    with torch.enable_grad(), transformed(model, {s.output: keep(s.name) for s in sites}):
        logits = model(inputs)
    return logits, seen


def _per_sample(
    gradient: Tensor, activation: Tensor, reference: Tensor | None, axis: int
) -> Tensor:
    """Gradient times (activation - reference), summed over positions: ``[n, units]``."""
    change = activation.detach() if reference is None else activation.detach() - reference
    product = (gradient * change).movedim(axis, 1)
    return product.flatten(2).sum(2) if product.ndim > 2 else product


def _scores(
    gradients: Sequence[Tensor],
    seen: Mapping[str, Tensor],
    sites: Sequence[Site],
    reference: Mapping[str, Tensor] | None,
) -> Tensor:
    parts = [
        _per_sample(
            gradient,
            seen[site.name],
            None if reference is None else reference[site.name],
            site.axis,
        )
        for gradient, site in zip(gradients, sites, strict=True)
    ]
    return torch.cat(parts, dim=1)


def _jacobian_scores(model: nn.Module, sites: Sequence[Site], task: Task, meter: Meter) -> Tensor:
    samples = task.samples
    weights = contrast_weights(samples.labels, task.n_classes)
    logits, seen = _run(model, sites, samples.inputs)
    targets = centred(logits)
    meter.forward += len(samples)
    activations = [seen[site.name] for site in sites]
    scores = []
    for index in range(task.n_classes):
        separation = (weights[index].to(logits.dtype) * targets[:, index]).sum()
        gradients = torch.autograd.grad(
            separation, activations, retain_graph=index + 1 < task.n_classes
        )
        meter.backward += len(samples)
        scores.append(_scores(gradients, seen, sites, task.reference).sum(0))
    return torch.stack(scores)


def _row_scores(
    model: nn.Module,
    sites: Sequence[Site],
    task: Task,
    negatives: int,
    meter: Meter,
    generator: torch.Generator,
) -> Tensor:
    samples = task.samples
    rows, targets, weights = _rows(samples, task.n_classes, negatives, generator)
    total = torch.zeros(task.n_classes, sum(site.n_units for site in sites))
    for part in torch.split(torch.arange(len(rows)), 500):  # bounded memory
        logits, seen = _run(model, sites, samples.inputs[rows[part]])
        chosen = centred(logits).gather(1, targets[part].unsqueeze(1)).squeeze(1)
        gradients = torch.autograd.grad(
            (weights[part].to(logits.dtype) * chosen).sum(), [seen[site.name] for site in sites]
        )
        meter.forward += len(part)
        meter.backward += len(part)
        total.index_add_(0, targets[part], _scores(gradients, seen, sites, task.reference))
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
