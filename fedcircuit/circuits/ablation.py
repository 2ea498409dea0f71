"""What an ablated unit becomes: nothing, or its mean activation over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.sites import capture, evaluating
from fedcircuit.samples import Samples

Ablation = Literal["zero", "mean"]


@torch.no_grad()
def reference_activations(
    model: nn.Module,
    sites: Sequence[Site],
    samples: Samples,
    *,
    n_classes: int,
    ablation: Ablation,
) -> dict[str, Tensor] | None:
    """Activation of ablated units by site name, ``[1, ...]``; None for zero ablation.

    The mean is taken at every position of a feature map, first within and then over the classes
    that have samples, so that a frequent class weighs no more than a rare one.

    Raises
    ------
    ValueError
        If the ablation is unknown, or mean ablation has no samples.
    """
    if ablation not in get_args(Ablation):
        raise ValueError(f"ablation must be one of {get_args(Ablation)}, got {ablation!r}")
    if ablation == "zero":
        return None
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
