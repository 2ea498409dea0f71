"""What an ablated unit becomes: nothing, its mean over the classes, or that of another sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.masking.memory import MOST_ROWS, Memory
from fedcircuit.circuits.models import evaluating
from fedcircuit.circuits.sites import capture, site_graph
from fedcircuit.logits import logits_of
from fedcircuit.samples import Samples

Ablation = Literal["zero", "mean", "resample"]


@dataclass(frozen=True)
class Seen:
    """What a pass over samples showed on its way to the reference of ablated units.

    Parameters
    ----------
    logits
        ``[n, classes]``.
    first
        Activations of the first site, ``[n, ...]``; None where they would take too much memory.
    graph
        What `site_graph` gave for these samples; None where it was not kept.
    """

    logits: Tensor
    first: Tensor | None
    graph: tuple[Tensor, Mapping[str, Tensor]] | None = None

    def rows(self, places: Tensor) -> Seen:
        """Of chosen samples, ``[rows]`` int64, without the graph."""
        first = None if self.first is None else self.first[places]
        return Seen(self.logits[places], first)


def reference_activations(
    model: nn.Module,
    sites: Sequence[Site],
    samples: Samples,
    *,
    n_classes: int,
    ablation: Ablation,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor] | None:
    """Activation of ablated units by site name, see `observed_reference`."""
    return observed_reference(
        model, sites, samples, n_classes=n_classes, ablation=ablation, generator=generator
    )[0]


@torch.no_grad()
def observed_reference(
    model: nn.Module,
    sites: Sequence[Site],
    samples: Samples,
    *,
    n_classes: int,
    ablation: Ablation,
    generator: torch.Generator | None = None,
    graph: bool = False,
    memory: Memory | None = None,
) -> tuple[dict[str, Tensor] | None, Seen | None]:
    """Activation of ablated units by site name, None for zero ablation; and what was seen.

    Mean ablation gives ``[1, ...]``: the mean at every position, first within and then over the
    classes that have samples, so that a frequent class weighs no more than a rare one. Resample
    ablation gives ``[n, ...]``: row i is the activation on a sample of another class than sample i
    (resampling: Chan et al. 2022, causal scrubbing), for these samples in this order alone.

    Parameters
    ----------
    model, sites
        The model, in the weights it is to be ablated with, and its sites.
    samples, n_classes
        What the mean is taken of, or partners are drawn from; number of classes of the task.
    ablation, generator
        What an ablated unit becomes, and what draws the partners of resample ablation.
    graph
        With mean ablation, keep the graph (`site_graph`) if memory allows; parameters are frozen.
    memory
        How much may be held at a time; None counts anew, with the default budget.

    Raises
    ------
    ValueError
        If the ablation is unknown; mean ablation has no samples; or resample ablation has no
        generator, samples of fewer than two classes, or activations beyond the memory.
    """
    if ablation not in get_args(Ablation):
        raise ValueError(f"ablation must be one of {get_args(Ablation)}, got {ablation!r}")
    if ablation == "zero" and not len(samples):
        return None, None
    if ablation == "mean" and not len(samples):
        raise ValueError("mean ablation needs samples to take the mean of, got none")
    if ablation == "zero":
        memory = memory or Memory.of(model, sites, samples.inputs)
        return None, _mean_reference(model, sites, samples, n_classes, memory)[1]
    if ablation == "resample":
        if generator is None:
            raise ValueError("resample ablation draws at random; give it a generator, got None")
        partners = resample_partners(samples.labels, n_classes, generator)
        memory = memory or Memory.of(model, sites, samples.inputs)
        _require_room(memory, len(samples))
        with evaluating(model), capture(model, sites) as seen:
            logits = logits_of(model, samples.inputs)
            partner = {name: activation[partners] for name, activation in seen.items()}
            return partner, Seen(logits, seen[sites[0].name])
    memory = memory or Memory.of(model, sites, samples.inputs)
    if graph and len(samples) <= memory.rows(graph=True):
        return _from_graph(model, sites, samples, n_classes)
    return _mean_reference(model, sites, samples, n_classes, memory)


def class_balanced(labels: Tensor, n_classes: int) -> Tensor:
    """Weights ``[n]`` of a mean within and then over the classes; they sum to 1."""
    counts = torch.bincount(labels, minlength=n_classes)
    return 1.0 / (counts[labels] * (counts > 0).sum())


def _weighted(weights: Tensor, activation: Tensor) -> Tensor:
    rows = weights.to(activation.device, activation.dtype)
    found: Tensor = torch.tensordot(rows, activation, dims=1).unsqueeze(0)
    return found


def add_means(means: dict[str, Tensor], weights: Tensor, activations: Mapping[str, Tensor]) -> None:
    """Add the weighted sums of activations ``[n, ...]`` to means ``[1, ...]``, by name."""
    for name, activation in activations.items():
        found = _weighted(weights, activation)
        means[name] = found if name not in means else means[name] + found


def _from_graph(
    model: nn.Module, sites: Sequence[Site], samples: Samples, n_classes: int
) -> tuple[dict[str, Tensor], Seen]:
    """The mean reference, and the graph of the one pass that gave it."""
    with evaluating(model):
        logits, seen = site_graph(model, sites, samples.inputs)
    weights = class_balanced(samples.labels, n_classes)
    mean = {name: _weighted(weights, part.detach()) for name, part in seen.items()}
    return mean, Seen(logits.detach(), seen[sites[0].name].detach(), (logits, seen))


def _mean_reference(
    model: nn.Module, sites: Sequence[Site], samples: Samples, n_classes: int, memory: Memory
) -> tuple[dict[str, Tensor], Seen]:
    """Mean within and then over the classes, and what was seen, a few samples at a time."""
    weights = class_balanced(samples.labels, n_classes)
    rows = memory.rows(graph=False, most=max(MOST_ROWS, len(samples)))
    mean: dict[str, Tensor] = {}
    logits: list[Tensor] = []
    first: list[Tensor] | None = []
    for part in torch.split(torch.arange(len(samples)), rows):
        with evaluating(model), capture(model, sites) as seen:
            logits.append(logits_of(model, samples.inputs[part]))
        add_means(mean, weights[part], seen)
        one = seen[sites[0].name]
        if first is None or not memory.fits(one[0].numel() * one.element_size() * len(samples)):
            first = None
        else:
            first.append(one)
    kept = None if first is None else torch.cat(first)
    return mean, Seen(torch.cat(logits), kept)


def _require_room(memory: Memory, n: int) -> None:
    """Refuse to keep the activations of so many samples, for resample ablation."""
    size = 2 * memory.sites * n
    if size > memory.budget:
        raise ValueError(
            f"resample ablation keeps the activations of all {n} samples, {size:,} bytes, and "
            f"memory_bytes is {memory.budget:,}; raise it, take fewer samples, or use mean ablation"
        )


def resample_partners(labels: Tensor, n_classes: int, generator: torch.Generator) -> Tensor:
    """For every sample the position of one of another class, ``[n]`` int64.

    First one of the other classes that have samples is drawn, each with the same chance, then one
    of its samples: what an ablated unit shows says nothing but "not this class".

    Raises
    ------
    ValueError
        If fewer than two classes have samples.
    """
    counts = torch.bincount(labels, minlength=n_classes)
    present = (counts > 0).nonzero().flatten()
    if len(present) < 2:
        raise ValueError(
            "resample ablation draws partners from another class; expected samples of at least 2 "
            f"classes, got {len(present)}; use mean ablation, or a probe with more classes"
        )
    place = torch.zeros(n_classes, dtype=torch.int64)
    place[present] = torch.arange(len(present))
    # a step of 1 to k - 1 around the circle of present classes never ends where it began
    steps = torch.randint(1, len(present), (len(labels),), generator=generator)
    others = present[(place[labels] + steps) % len(present)]
    draws = torch.rand(len(labels), generator=generator, dtype=torch.float64)
    order = labels.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    return order[starts[others] + (draws * counts[others]).long()]


def reference_rows(
    reference: Mapping[str, Tensor] | None, rows: Tensor
) -> Mapping[str, Tensor] | None:
    """The reference of chosen samples: ``[rows, ...]`` of ``[n, ...]``; ``[1, ...]`` as it is.

    Parameters
    ----------
    reference
        By site name, as `reference_activations` gives it.
    rows
        ``[rows]`` int64: which sample each row is.
    """
    if reference is None:
        return None
    return {name: v if len(v) == 1 else v[rows] for name, v in reference.items()}
