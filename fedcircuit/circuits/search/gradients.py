"""The separation of each class from the others, and its derivatives at any setting of gates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits import split_by_site
from fedcircuit.circuits.search.contrast import contrast_of_logits, contrast_weights
from fedcircuit.circuits.search.protocol import class_stream
from fedcircuit.circuits.search.searched_model import SearchedModel
from fedcircuit.circuits.sites import gated, require_gradient
from fedcircuit.logits import logits_of


def separation_weights(labels: Tensor, n_classes: int, index: int) -> Tensor:
    """Weights ``[n, classes]`` whose product with the logits sums to the separation of a class.

    The mean contrast (`fedcircuit.circuits.search.contrast`) of the class's samples less that
    of the other classes, each of equal weight.

    Parameters
    ----------
    labels
        ``[n]`` int64.
    n_classes
        Number of classes of the task.
    index
        The class.
    """
    own = contrast_of_logits(labels, torch.full_like(labels, index), n_classes)
    return contrast_weights(labels, n_classes)[index].unsqueeze(1) * own


def shared_gradients(searched: SearchedModel, gates: Tensor) -> Tensor:
    """Gradients ``[classes, units]`` of every class's separation at one setting of the gates.

    One forward pass and one backward pass for each class; every sample serves every class.

    Parameters
    ----------
    searched
        The model and its task.
    gates
        ``[units]``, in [0, 1].
    """
    model, sites, samples = searched.model, searched.sites, searched.samples
    n_classes, meter = searched.n_classes, searched.meter
    every = [separation_weights(samples.labels, n_classes, c) for c in range(n_classes)]
    total = torch.zeros(n_classes, len(gates))
    for part in searched.passes(len(samples), graph=True):
        leaf = gates.detach().clone().requires_grad_()
        parts, reference = split_by_site(leaf, sites), searched.reference(part)
        with torch.enable_grad(), gated(model, sites, parts, reference):
            logits = logits_of(model, samples.inputs[part])
            require_gradient(logits)
            meter.forward += len(part)
            for index, weights in enumerate(every):
                separation = (weights[part].to(logits) * logits).sum()
                more = index + 1 < n_classes
                (gradient,) = torch.autograd.grad(separation, leaf, retain_graph=more)
                total[index] += gradient
                meter.backward += len(part)
    return total


@dataclass(frozen=True)
class Rows:
    """Samples that run through the gates of a class of their own.

    Parameters
    ----------
    samples, targets
        ``[rows]`` int64: which sample a row is, and whose class's gates it runs through.
    weights
        ``[rows]``: with these, the targets of a class sum to its separation.
    """

    samples: Tensor
    targets: Tensor
    weights: Tensor


def contrast_rows(
    labels: Tensor, n_classes: int, negatives: int | None, generator: torch.Generator
) -> Rows:
    """For every class all of its samples, and some of every other class, drawn at random.

    Parameters
    ----------
    labels
        ``[n]`` int64.
    n_classes
        Number of classes of the task.
    negatives
        Samples of each other class, or as many as it has; None is all.
    generator
        Its seed decides; every class draws from a stream of its own.
    """
    members = [(labels == index).nonzero().flatten() for index in range(n_classes)]
    present = [index for index, rows in enumerate(members) if len(rows)]
    samples, targets, weights = [], [], []
    for target in present:
        stream = class_stream(generator, target)
        for index in present:
            rows = members[index]
            share = 1.0
            if index != target:
                if negatives is not None and len(rows) > negatives:
                    order = torch.randperm(len(rows), generator=stream)
                    rows = rows[order[:negatives].sort().values]
                share = -1.0 / (len(present) - 1)
            samples.append(rows)
            targets.append(torch.full((len(rows),), target))
            weights.append(torch.full((len(rows),), share / len(rows)))
    return Rows(torch.cat(samples), torch.cat(targets), torch.cat(weights))


def own_gradients(searched: SearchedModel, gates: Tensor, rows: Rows) -> Tensor:
    """Gradients ``[classes, units]`` of every class's separation, each at gates of its own.

    One forward and one backward pass over the rows serve every class: a row touches the gates
    of its class alone, so the sum over rows is as many independent problems as there are classes.

    Parameters
    ----------
    searched
        The model and its task.
    gates
        ``[classes, units]``, in [0, 1].
    rows
        What runs through which gates.
    """
    model, sites, few = searched.model, searched.sites, searched.samples
    total = torch.zeros_like(gates, dtype=torch.float32)
    for part in searched.passes(len(rows.samples), graph=True):
        leaf = gates.detach().clone().float().requires_grad_()
        picked, targets = rows.samples[part], rows.targets[part]
        parts, reference = split_by_site(leaf[targets], sites), searched.reference(picked)
        with torch.enable_grad(), gated(model, sites, parts, reference):
            logits = logits_of(model, few.inputs[picked])
            weights = contrast_of_logits(few.labels[picked], targets, searched.n_classes)
            weights = weights * rows.weights[part].unsqueeze(1)
            separation = (weights.to(logits) * logits).sum()
            (gradient,) = torch.autograd.grad(separation, leaf)
        searched.meter.forward += len(part)
        searched.meter.backward += len(part)
        total += gradient
    return total
