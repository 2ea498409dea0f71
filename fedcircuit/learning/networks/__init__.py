"""Networks, the weights they keep, and the names under which these are exchanged."""

from fedcircuit.learning.networks.exchanged_names import NameFit, NameFitError, fitted
from fedcircuit.learning.networks.features import (
    LayerCall,
    evaluating,
    head_inputs,
    head_layer,
    last_call,
    linear_layers,
)
from fedcircuit.learning.networks.frozen_heads import (
    FrozenLinear,
    Head,
    UnitLength,
    frozen_rows,
    with_frozen_head,
)
from fedcircuit.learning.networks.layers import batch_norm_tensors, layer_weights
from fedcircuit.learning.networks.lora import (
    LoRA,
    adapter_pairs,
    low_rank_factors,
    peft_names,
    small_vit,
    with_lora,
)
from fedcircuit.learning.networks.models import Activation, Initialisation, build_model
from fedcircuit.learning.networks.sparsity import Pruning, WeightSparsity, density, sparsified

__all__ = [
    "Activation",
    "FrozenLinear",
    "Head",
    "Initialisation",
    "LayerCall",
    "LoRA",
    "NameFit",
    "NameFitError",
    "Pruning",
    "UnitLength",
    "WeightSparsity",
    "adapter_pairs",
    "batch_norm_tensors",
    "build_model",
    "density",
    "evaluating",
    "fitted",
    "frozen_rows",
    "head_inputs",
    "head_layer",
    "last_call",
    "layer_weights",
    "linear_layers",
    "low_rank_factors",
    "peft_names",
    "small_vit",
    "sparsified",
    "with_frozen_head",
    "with_lora",
]
