"""First-order effects of units: gradient times what the activation differs from its reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits import Site
from fedcircuit.circuits.search.contrast import contrast_of_logits
from fedcircuit.circuits.search.searched_model import SearchedModel
from fedcircuit.circuits.sites import site_graph


def _per_sample(
    gradient: Tensor, activation: Tensor, reference: Tensor | None, axis: int
) -> Tensor:
    """Gradient times (activation - reference), summed over positions: ``[n, units]``."""
    change = activation.detach() if reference is None else activation.detach() - reference
    product = (gradient * change).movedim(axis, 1)
    return product.flatten(2).sum(2) if product.ndim > 2 else product


def summed_effects(
    gradients: Sequence[Tensor],
    seen: Mapping[str, Tensor],
    sites: Sequence[Site],
    reference: Mapping[str, Tensor] | None,
) -> Tensor:
    """Gradient times (activation - reference) of every unit, over positions: ``[n, units]``."""
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


@dataclass(frozen=True)
class Effects:
    """Mean effects by the sample's true class, and the squared standard error of these means.

    Both ``[..., classes, units]``; NaN where a class has no sample; the error of a single one is 0.
    """

    mean: Tensor
    variance: Tensor

    @classmethod
    def summed(cls, total: Tensor, squares: Tensor, counts: Tensor) -> Effects:
        """Of sums of effects and of their squares, and the samples of each class, ``[classes]``."""
        n = counts[:, None]
        mean, square = total / n, squares / n
        return cls(mean, (square - mean.square()).clamp(min=0) / (n - 1).clamp(min=1))


def mean_effects(searched: SearchedModel, targets: Sequence[Tensor]) -> Iterator[Effects]:
    """Mean first-order effect of every unit on the contrast, by the sample's true class.

    One forward pass, and one backward pass for each choice of target classes, on as many samples
    at a time as the task's memory allows.

    Parameters
    ----------
    searched
        The model and its task; a graph that was kept saves the forward pass.
    targets
        Each ``[n]`` int64: the class whose contrast is differentiated, for every sample.

    Yields
    ------
    Effects
        One for each entry of ``targets``.
    """
    samples, sites, n_classes = searched.samples, searched.sites, searched.n_classes
    members = torch.nn.functional.one_hot(samples.labels, n_classes).float()
    total = torch.zeros(len(targets), n_classes, searched.n_units)
    squares = torch.zeros_like(total)
    shown = searched.task.seen
    known = None if shown is None else shown.graph
    every = torch.arange(len(samples))
    for part in (every,) if known else searched.passes(len(samples), graph=True):
        reference = searched.reference(part)
        logits, seen = known or site_graph(searched.model, sites, samples.inputs[part])
        searched.meter.forward += len(part) if known is None else 0
        activations = [seen[site.name] for site in sites]
        for index, target in enumerate(targets):
            weights = contrast_of_logits(samples.labels[part], target[part], n_classes)
            contrast = (logits * weights.to(logits)).sum()
            more = known is not None or index + 1 < len(targets)  # a known graph may serve again
            gradients = torch.autograd.grad(contrast, activations, retain_graph=more)
            searched.meter.backward += len(part)
            effects = summed_effects(gradients, seen, sites, reference).float().cpu()
            total[index] += members[part].T @ effects
            squares[index] += members[part].T @ effects.square()
    for one, square in zip(total, squares, strict=True):
        yield Effects.summed(one, square, members.sum(0))
