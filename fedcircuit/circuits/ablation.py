"""What an ablated unit becomes: nothing, its mean over the classes, or that of another sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.sites import capture, evaluating
from fedcircuit.samples import Samples

Ablation = Literal["zero", "mean", "resample"]


@torch.no_grad()
def reference_activations(
    model: nn.Module,
    sites: Sequence[Site],
    samples: Samples,
    *,
    n_classes: int,
    ablation: Ablation,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor] | None:
    """Activation of ablated units by site name; None for zero ablation.

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

    Raises
    ------
    ValueError
        If the ablation is unknown; mean ablation has no samples; or resample ablation has no
        generator, or samples of fewer than two classes.
    """
    if ablation not in get_args(Ablation):
        raise ValueError(f"ablation must be one of {get_args(Ablation)}, got {ablation!r}")
    if ablation == "zero":
        return None
    if ablation == "resample":
        if generator is None:
            raise ValueError("resample ablation draws at random; give it a generator, got None")
        partners = resample_partners(samples.labels, n_classes, generator)
        with evaluating(model), capture(model, sites) as seen:
            model(samples.inputs)
            return {name: activation[partners] for name, activation in seen.items()}
    if len(samples) == 0:
        raise ValueError("mean ablation needs samples to take the mean of, got none")
    counts = samples.counts(n_classes)
    weights = 1.0 / (counts[samples.labels] * (counts > 0).sum())  # [n], sums to 1
    with evaluating(model), capture(model, sites) as seen:
        model(samples.inputs)
        return {
            name: torch.tensordot(weights.to(activation.dtype), activation, dims=1).unsqueeze(0)
            for name, activation in seen.items()
        }


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
