"""Mutual information of layers with inputs and labels: the information plane's estimators."""

from fedcircuit.analysis.information.estimate import Estimate, Float64Array, Int64Array
from fedcircuit.analysis.information.layer import label_information, layer_information
from fedcircuit.analysis.information.settings import (
    INPUT_ESTIMATORS,
    LABEL_ESTIMATORS,
    CriticSettings,
    InformationSettings,
)

__all__ = [
    "INPUT_ESTIMATORS",
    "LABEL_ESTIMATORS",
    "CriticSettings",
    "Estimate",
    "Float64Array",
    "InformationSettings",
    "Int64Array",
    "label_information",
    "layer_information",
]
