"""Which edges lie on a path from the input to a logit: followed, not estimated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedcircuit.circuits.connectivity import _skeleton
from fedcircuit.circuits.edges.circuit import EdgeLayer, split_by_layer
from fedcircuit.circuits.sites import evaluating


def on_path(
    model: nn.Module, layers: Sequence[EdgeLayer], masks: Tensor, example: Tensor
) -> Tensor:
    """The edges of each mask that lie on a path input -> ... -> logit of its own edges.

    ``[rows, edges]`` bool, a subset of the masks. All other edges dangle: nothing that depends on
    the input passes through them. Removing dead ends changes no logit; removing an edge that
    leaves a unit without kept inputs replaces one constant by another, the unit's reference.
    Exact by the non-negative copy of `fedcircuit.circuits.connectivity` (its limits hold): an edge
    is on a path if something arrives at it and the logits depend on it.

    Parameters
    ----------
    model, layers
        The model, left as it is, and its edge layers.
    masks
        ``[rows, edges]`` bool, one edge circuit a row.
    example
        One or more inputs ``[n, ...]``; only the shape of the first is used.
    """
    skeleton, ones = _skeleton(model, example)
    structure = [skeleton.get_parameter(layer.parameter) for layer in layers]
    whole = [weight.detach().clone() for weight in structure]
    result = torch.zeros_like(masks)
    for row, mask in enumerate(masks):
        parts = split_by_layer(mask.to(ones.device), layers)
        with torch.no_grad():
            for layer, weight, full in zip(layers, structure, whole, strict=True):
                weight.copy_(full * layer.per_weight(parts[layer.name], full))
        with evaluating(skeleton), torch.enable_grad():
            for weight in structure:
                weight.requires_grad_()
            gradients = torch.autograd.grad(skeleton(ones).sum(), structure)
        # every term is non-negative: a product is positive exactly if a path leads through
        carried = [
            layer.per_edge(gradient * weight.detach()).sum(2).flatten() > 0
            for layer, gradient, weight in zip(layers, gradients, structure, strict=True)
        ]
        result[row] = torch.cat(carried).to(result.device)
    return result
