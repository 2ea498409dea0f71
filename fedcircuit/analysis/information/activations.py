"""What a model makes of a pool of samples: activations of its hidden layers, and its accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.models import evaluating
from fedcircuit.circuits.sites import capture
from fedcircuit.logits import logits_of, n_not_finite, predicted
from fedcircuit.samples import Samples

Spatial = Literal["mean", "flat"]

OUTPUT = "output"  # name of the layer of logits, where it is asked for


@dataclass(frozen=True)
class PoolActivations:
    """What a model makes of the pool.

    Parameters
    ----------
    layers
        By name, ``[n, d]`` float32, in order of execution.
    accuracy
        Share of the pool it labels rightly; NaN where a logit is not finite.
    """

    layers: dict[str, NDArray[np.float32]]
    accuracy: float


def pool_activations(
    model: nn.Module,
    pool: Samples,
    sites: Sequence[Site],
    *,
    spatial: Spatial = "mean",
    output: bool = False,
    batch_size: int = 500,
) -> PoolActivations:
    """Activations of all sites on the pool, and the accuracy, from the same forward passes.

    The model runs in eval mode (no dropout, batch norm with its running statistics) and is given
    back as it was.

    Parameters
    ----------
    model
        Gives logits ``[n, classes]``.
    pool
        Labelled samples, at least one.
    sites
        Of the model's architecture, as `fedcircuit.circuits.sites.find_sites` gives them.
    spatial
        What one sample of a convolution is: ``mean``, the mean of each channel over all positions
        (``d`` is the number of channels), or ``flat``, every channel at every position. Tokens
        are positions too. Layers without positions are the same in both.
    output
        Give the logits as well, as the last layer, named ``output``.
    batch_size
        Samples of one forward pass.

    Raises
    ------
    ValueError
        If the pool is empty.
    """
    if not len(pool):
        raise ValueError("the information plane needs a pool of samples, got none")
    parts: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    logits = []
    with evaluating(model), torch.no_grad(), capture(model, sites) as seen:
        for inputs in torch.split(pool.inputs, batch_size):
            logits.append(logits_of(model, inputs).cpu())
            for site in sites:
                parts[site.name].append(_rows(seen[site.name], site.axis, spatial).cpu())
    scores = torch.cat(logits)
    layers = {name: torch.cat(values).float().numpy() for name, values in parts.items()}
    if output:
        layers[OUTPUT] = scores.flatten(1).float().numpy()
    hits = (predicted(scores) == pool.labels).double().mean()
    return PoolActivations(layers, math.nan if n_not_finite(scores) else float(hits))


def _rows(values: Tensor, axis: int, spatial: Spatial) -> Tensor:
    """``[n, d]``: positions averaged or all of them side by side."""
    if spatial == "mean":
        # [n, units, positions...], [n, positions..., units] or [n, tokens, heads, channels]
        last = values.ndim if axis == 1 else axis % values.ndim
        positions = range(2 if axis == 1 else 1, last)
        values = values.mean(dim=tuple(positions)) if positions else values
    return values.flatten(1)
