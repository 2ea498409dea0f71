"""Which parameters of a model are weights of its layers."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_TABLES_AND_NORMS = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    _BatchNorm,
)


def layer_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of convolutional, linear, attention and recurrent layers, by name in the state dict.

    They are the floating-point parameters of more than one dimension that their module calls a
    weight (``weight``, ``in_proj_weight``, ``weight_ih_l0``), in modules of one's own too. Tables
    of embeddings, norms, class tokens and positional encodings are none. A weight that a table
    and a layer share is the layer's.
    """
    found = {
        id(parameter)
        for module in model.modules()
        if not isinstance(module, _TABLES_AND_NORMS)
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim > 1 and parameter.is_floating_point() and _is_weight(name)
    }
    return {name: value for name, value in model.named_parameters() if id(value) in found}


def _is_weight(name: str) -> bool:
    return name == "weight" or name.endswith("_weight") or name.startswith("weight_")


def batch_norm_tensors(model: nn.Module) -> tuple[str, ...]:
    """Names of the parameters and statistics of every batch norm, in the order of the state dict.

    Batch norms are found by type, in modules of one's own too, and instance norms are none.
    """
    found = {
        f"{name}.{tensor}" if name else tensor
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, _BatchNorm)
        for tensor in module.state_dict()
    }
    return tuple(name for name in model.state_dict() if name in found)
