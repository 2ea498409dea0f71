"""Which edges lie on a path from the input to a logit: followed, not estimated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site, split_by_site
from fedcircuit.circuits.edges.edge_circuit import EdgeLayer, split_by_layer
from fedcircuit.circuits.models import copied
from fedcircuit.circuits.paths import live_units


def on_path(
    model: nn.Module, layers: Sequence[EdgeLayer], masks: Tensor, example: Tensor
) -> Tensor:
    """The edges of each mask that lie on a path input -> ... -> logit of its own edges.

    ``[rows, edges]`` bool, a subset of the masks. All other edges dangle: nothing that depends on
    the input passes through them. Removing dead ends changes no logit; removing an edge that
    leaves a unit without kept inputs replaces one constant by another, the unit's reference.

    An edge ``u -> v`` is on a path if it exists, u is reached from the input and v is read by a
    logit, each through kept edges. That is what `fedcircuit.circuits.paths.live_units` says
    (its limits hold) of the inputs and outputs of every layer in a copy without the other edges.

    Parameters
    ----------
    model, layers
        The model, left as it is, and its edge layers.
    masks
        ``[rows, edges]`` bool, one edge circuit a row.
    example
        One or more inputs ``[n, ...]``; only the shape of the first is used.

    Raises
    ------
    ValueError
        If the forward does something whose structure is not known.
    """
    result = torch.zeros_like(masks)
    for row, mask in enumerate(masks):
        opened, sites = _opened(model, layers)
        weights = _without(opened, layers, mask)
        live = split_by_site(live_units(opened, sites, example), sites)
        parts = [
            _between(layer, weight, live[f"{layer.name}.reads"], live[f"{layer.name}.makes"])
            for layer, weight in zip(layers, weights, strict=True)
        ]
        result[row] = torch.cat(parts).to(result.device)
    return result


def _opened(model: nn.Module, layers: Sequence[EdgeLayer]) -> tuple[nn.Module, tuple[Site, ...]]:
    """A copy in which what each layer reads, and what it makes, are the outputs of modules."""
    made = copied(model)
    sites = []
    for layer in layers:
        module = made.get_submodule(layer.name)
        opened = nn.Sequential(nn.Identity(), module)
        parent, _, child = layer.name.rpartition(".")
        if child:
            setattr(made.get_submodule(parent), child, opened)
        else:
            made = opened  # the model is one layer
        axis, n_read = (-1, module.in_features) if isinstance(module, nn.Linear) else (1, None)
        start = f"{layer.name}." if layer.name else ""
        sites.append(Site(f"{layer.name}.reads", n_read or layer.in_units, axis, f"{start}0"))
        sites.append(Site(f"{layer.name}.makes", layer.out_units, axis, f"{start}1"))
    return made, tuple(sites)


def _without(opened: nn.Module, layers: Sequence[EdgeLayer], mask: Tensor) -> list[Tensor]:
    """Sets the weights of the other edges to zero; the weights that are left, layer by layer."""
    edges, left = split_by_layer(mask, layers), []
    for layer in layers:
        weight = opened.get_parameter(f"{layer.name}.1.weight" if layer.name else "1.weight")
        kept = layer.per_weight(edges[layer.name].to(weight.device), weight)
        with torch.no_grad():
            weight.copy_(torch.where(kept, weight, 0.0))
        left.append(weight.detach())
    return left


def _between(layer: EdgeLayer, weight: Tensor, reads: Tensor, makes: Tensor) -> Tensor:
    """Edges with a weight that joins a live input and a live output, ``[edges]`` bool."""
    joined = layer.per_edge(weight).cpu() != 0
    if len(reads) != layer.in_units:  # the features of a flattened map, each with a weight
        joined = joined & reads.reshape(1, layer.in_units, layer.n_weights)
        return (joined.any(2) & makes[:, None]).flatten()
    return (joined.any(2) & reads[None] & makes[:, None]).flatten()
