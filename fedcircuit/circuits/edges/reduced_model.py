"""A model reduced to an edge circuit: removed edges read a constant instead of their unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedcircuit.circuits.edges.edge_circuit import EdgeLayer, split_by_layer
from fedcircuit.circuits.edges.edge_layers import edge_weight
from fedcircuit.circuits.edges.scoring import linear_part
from fedcircuit.circuits.models import evaluating
from fedcircuit.circuits.sites import Transform, transformed
from fedcircuit.logits import as_logits, inputs_for


def edge_logits(
    model: nn.Module,
    layers: Sequence[EdgeLayer],
    mask: Tensor,
    inputs: Tensor,
    references: Mapping[str, Tensor],
    *,
    batch: int = 500,
) -> Tensor:
    """Logits ``[n, classes]`` of the model reduced to an edge circuit.

    Each layer computes ``W_kept x + W_removed reference + bias``: masked weights, and one constant
    map for what removed edges read.

    Parameters
    ----------
    model, layers
        The model, left as it is, and its edge layers.
    mask
        ``[edges]`` bool, the kept edges of all layers.
    inputs
        ``[n, ...]``.
    references
        By layer name, what a removed edge reads, ``[1, ...]``, of the shape of the layer's input.
    batch
        Most samples in one forward pass.

    Raises
    ------
    ValueError
        If the mask is not bool of shape ``[edges]``.
    """
    n_edges = sum(layer.n_edges for layer in layers)
    if mask.dtype != torch.bool or tuple(mask.shape) != (n_edges,):
        raise ValueError(
            f"the mask must be bool of shape [{n_edges}], one for each edge, "
            f"got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    with evaluating(model), torch.no_grad(), _reduced(model, layers, mask, references) as weights:
        parts = [
            as_logits(functional_call(model, weights, (inputs_for(model, part),)), len(part))
            for part in torch.split(inputs, batch)
        ]
    return torch.cat(parts).cpu()


@contextmanager
def _reduced(
    model: nn.Module, layers: Sequence[EdgeLayer], mask: Tensor, references: Mapping[str, Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Kept weights by parameter name; inside, the outputs are completed by their constants."""
    kept: dict[str, Tensor] = {}
    constants: dict[str, Transform] = {}
    edges = split_by_layer(mask, layers)
    for layer in layers:
        weight = edge_weight(model, layer.name)
        each = layer.per_weight(edges[layer.name].to(weight.device), weight)
        kept[layer.parameter] = torch.where(each, weight, 0.0)
        module = model.get_submodule(layer.name)
        removed = linear_part(module, weight - kept[layer.parameter], references[layer.name])
        constants[layer.name] = _plus(removed)
    with transformed(model, constants):
        yield kept


def _plus(constant: Tensor) -> Transform:
    return lambda output: output + constant
