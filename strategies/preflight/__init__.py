"""What is settled before the first round: names, numbers, and whether anything can work."""

from typing import TYPE_CHECKING

from fedcircuit.strategies.preflight.checks import (
    PreflightError,
    check_model,
    check_weights,
    misfit,
)
from fedcircuit.strategies.preflight.model_fit import ModelFit
from fedcircuit.strategies.preflight.numbered_weights import WeightNames
from fedcircuit.strategies.preflight.round_numbers import RoundNumbers

__all__ = [
    "ModelFit",
    "PreflightError",
    "RoundNumbers",
    "WeightNames",
    "check_model",
    "check_weights",
    "misfit",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
