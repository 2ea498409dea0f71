"""What an ablated unit becomes: nothing, its mean over the classes, or that of another sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.sites import capture, evaluating, transformed
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
        Activations of the first site, ``[n, ...]``.
    graph
        What `site_graph` gave for these samples; None where it was not kept.
    """

    logits: Tensor
    first: Tensor
    graph: tuple[Tensor, Mapping[str, Tensor]] | None = None

    def rows(self, places: Tensor) -> Seen:
        """Of chosen samples, ``[rows]`` int64, without the graph."""
        return Seen(self.logits[places], self.first[places])


def site_graph(
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
) -> tuple[dict[str, Tensor] | None, Seen | None]:
    """Activation of ablated units by site name, and what was seen; None for zero ablation.

    Mean ablation gives ``[1, ...]``: the mean at every position of a feature map, first within
    and then over the classes that have samples, so that a frequent class weighs no more than a
    rare one. Resample ablation gives ``[n, ...]``: row i is the activation on a sample of another
    class than sample i (resampling: Chan et al. 2022, causal scrubbing), so it holds for these
    samples in this order alone.

    Parameters
    ----------
    model, sites
        The model, in the weights it is to be ablated with, and its sites.
    samples
        What the mean is taken of, or partners are drawn from.
    n_classes
        Number of classes of the task.
    ablation
        What an ablated unit becomes.
    generator
        Draws the partners of resample ablation; not used by the others.
    graph
        With mean ablation, keep the graph of the pass (`site_graph`); the caller has frozen the
        parameters.

    Raises
    ------
    ValueError
        If the ablation is unknown; mean ablation has no samples; or resample ablation has no
        generator, or samples of fewer than two classes.
    """
    if ablation not in get_args(Ablation):
        raise ValueError(f"ablation must be one of {get_args(Ablation)}, got {ablation!r}")
    if ablation == "zero":
        return None, None
    if ablation == "resample":
        if generator is None:
            raise ValueError("resample ablation draws at random; give it a generator, got None")
        partners = resample_partners(samples.labels, n_classes, generator)
        with evaluating(model), capture(model, sites) as seen:
            logits = model(samples.inputs)
            partner = {name: activation[partners] for name, activation in seen.items()}
            return partner, Seen(logits, seen[sites[0].name])
    if len(samples) == 0:
        raise ValueError("mean ablation needs samples to take the mean of, got none")
    return _mean_reference(model, sites, samples, n_classes, graph=graph)


def _mean_reference(
    model: nn.Module, sites: Sequence[Site], samples: Samples, n_classes: int, *, graph: bool
) -> tuple[dict[str, Tensor], Seen]:
    """Mean within and then over the classes, and what was seen; without gradients."""
    counts = samples.counts(n_classes)
    weights = 1.0 / (counts[samples.labels] * (counts > 0).sum())  # [n], sums to 1
    with evaluating(model):
        if graph:
            pass_ = site_graph(model, sites, samples.inputs)
        else:
            with capture(model, sites) as captured:
                pass_ = model(samples.inputs), captured
    logits, seen = pass_[0].detach(), {name: part.detach() for name, part in pass_[1].items()}
    mean = {
        name: torch.tensordot(weights.to(activation.dtype), activation, dims=1).unsqueeze(0)
        for name, activation in seen.items()
    }
    return mean, Seen(logits, seen[sites[0].name], pass_ if graph else None)


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
