"""One model, or many of one architecture, under many circuits at once."""

from typing import TYPE_CHECKING

from fedcircuit.circuits.masking.ablation import (
    Ablation,
    Seen,
    add_means,
    class_balanced,
    observed_reference,
    reference_activations,
    reference_rows,
)
from fedcircuit.circuits.masking.contrast_samples import Masked, by_length, contrast, paired
from fedcircuit.circuits.masking.masking import MaskedModel, masked_model, trial_agrees
from fedcircuit.circuits.masking.memory import DEFAULT_BYTES, Memory, require_budget
from fedcircuit.circuits.masking.stacked_masks import StackedModels, masked_models
from fedcircuit.circuits.masking.stacked_models import Layers, Stack, layers_of, stack

__all__ = [
    "Ablation",
    "DEFAULT_BYTES",
    "Layers",
    "Masked",
    "MaskedModel",
    "Memory",
    "Seen",
    "Stack",
    "StackedModels",
    "add_means",
    "by_length",
    "class_balanced",
    "contrast",
    "layers_of",
    "masked_model",
    "masked_models",
    "observed_reference",
    "paired",
    "reference_activations",
    "reference_rows",
    "require_budget",
    "stack",
    "trial_agrees",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
