"""The separation of each class from the others, and its derivatives at any setting of gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site, split_by_site
from fedcircuit.circuits.masking import reference_rows
from fedcircuit.circuits.search.contrast import contrast_of_logits, contrast_weights
from fedcircuit.circuits.search.protocol import Meter, Task, class_stream
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


def shared_gradients(
    model: nn.Module, sites: Sequence[Site], task: Task, gates: Tensor, meter: Meter
) -> Tensor:
    """Gradients ``[classes, units]`` of every class's separation at one setting of the gates.

    One forward pass and one backward pass for each class; every sample serves every class.

    Parameters
    ----------
    model
        In eval mode, its parameters frozen.
    sites, task
        Of the model.
    gates
        ``[units]``, in [0, 1].
    meter
        Counts the passes.
    """
    samples = task.samples
    every = [separation_weights(samples.labels, task.n_classes, c) for c in range(task.n_classes)]
    total = torch.zeros(task.n_classes, len(gates))
    rows = task.memory_of(model, sites).rows(graph=True)
    for part in torch.split(torch.arange(len(samples)), rows):
        leaf = gates.detach().clone().requires_grad_()
        reference = reference_rows(task.reference, part)
        with (
            torch.enable_grad(),
            gated(model, sites, split_by_site(leaf, sites), reference),
        ):
            logits = logits_of(model, samples.inputs[part])
            require_gradient(logits)
            meter.forward += len(part)
            for index, weights in enumerate(every):
                separation = (weights[part].to(logits) * logits).sum()
                last = index + 1 == task.n_classes
                (gradient,) = torch.autograd.grad(separation, leaf, retain_graph=not last)
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


def own_gradients(
    model: nn.Module,
    sites: Sequence[Site],
    task: Task,
    gates: Tensor,
    rows: Rows,
    *,
    meter: Meter,
) -> Tensor:
    """Gradients ``[classes, units]`` of every class's separation, each at gates of its own.

    One forward and one backward pass over the rows serve every class: a row touches the gates
    of its class alone, so the sum over rows is as many independent problems as there are classes.

    Parameters
    ----------
    model
        In eval mode, its parameters frozen.
    sites, task
        Of the model.
    gates
        ``[classes, units]``, in [0, 1].
    rows
        What runs through which gates.
    meter
        Counts the passes.
    """
    total = torch.zeros_like(gates, dtype=torch.float32)
    at_once = task.memory_of(model, sites).rows(graph=True)
    for part in torch.split(torch.arange(len(rows.samples)), at_once):
        leaf = gates.detach().clone().float().requires_grad_()
        picked, targets = rows.samples[part], rows.targets[part]
        reference = reference_rows(task.reference, picked)
        with (
            torch.enable_grad(),
            gated(model, sites, split_by_site(leaf[targets], sites), reference),
        ):
            logits = logits_of(model, task.samples.inputs[picked])
            weights = contrast_of_logits(task.samples.labels[picked], targets, task.n_classes)
            weights = weights * rows.weights[part].unsqueeze(1)
            separation = (weights.to(logits) * logits).sum()
            (gradient,) = torch.autograd.grad(separation, leaf)
        meter.forward += len(part)
        meter.backward += len(part)
        total += gradient
    return total
