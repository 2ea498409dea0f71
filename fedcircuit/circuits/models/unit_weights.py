"""The weights that units are made with: the one place that knows where a layer keeps them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.models.module_calls import TRANSPOSED


def layer_weight(layer: nn.Module) -> Tensor:
    """The weight of a convolution or linear layer as it is used, detached.

    Also where it is computed from other parameters (weight or spectral norm, in either form).

    Raises
    ------
    ValueError
        If the layer keeps none under this name.
    """
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise ValueError(
            f"{type(layer).__name__} keeps no weights under the name 'weight'; use a discovery "
            "method that reads activations, such as 'attribution'"
        )
    return weight.detach()


def attention_weights(layer: nn.MultiheadAttention) -> tuple[Tensor, ...]:
    """Weights of the query, key and value projections ``[embed, in]``, detached."""
    joint: Tensor | None = getattr(layer, "in_proj_weight", None)  # which may be parametrized
    if joint is not None:
        return tuple(part.detach() for part in joint.chunk(3))
    parts = layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight
    return tuple(part.detach() for part in parts if isinstance(part, Tensor))


def incoming_weights(model: nn.Module, site: Site) -> Tensor:
    """The weights that each unit of a site is made with, ``[units, weights]``, detached.

    Of a head: the rows of the query, key and value projections that belong to it.

    Parameters
    ----------
    model, site
        The model and one of its sites.
    """
    layer = model.get_submodule(site.name)
    if isinstance(layer, nn.MultiheadAttention):
        parts = attention_weights(layer)
        return torch.cat([part.reshape(site.n_units, -1) for part in parts], dim=1)
    weight = layer_weight(layer)
    if isinstance(layer, TRANSPOSED):
        # [in, out / groups, ...]: the inputs of one group make the units of that group
        weight = weight.reshape(layer.groups, -1, *weight.shape[1:]).transpose(1, 2)
    return weight.reshape(site.n_units, -1)
