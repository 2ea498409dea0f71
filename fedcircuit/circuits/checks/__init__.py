"""What a circuit must show on samples that discovery did not see."""

from typing import TYPE_CHECKING

from fedcircuit.circuits.checks.controls import Controls, random_like
from fedcircuit.circuits.checks.measures import OneVsRest, high_quantile, one_vs_rest
from fedcircuit.circuits.checks.model_checks import CheckSettings, check_circuits
from fedcircuit.circuits.checks.subject import Candidates, CheckedModel, checked_model, prepared
from fedcircuit.circuits.checks.validity import NOT_FOUND, Status, Validity, ValidityThresholds

__all__ = [
    "Candidates",
    "CheckSettings",
    "CheckedModel",
    "Controls",
    "NOT_FOUND",
    "OneVsRest",
    "Status",
    "Validity",
    "ValidityThresholds",
    "check_circuits",
    "checked_model",
    "high_quantile",
    "one_vs_rest",
    "prepared",
    "random_like",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
