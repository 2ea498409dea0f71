"""Estimators of mutual information between layers, inputs and labels."""

from fedcircuit.analysis.estimators.binned import bin_codes, entropy
from fedcircuit.analysis.estimators.critics import critic_information
from fedcircuit.analysis.estimators.estimate import (
    CONSTANT,
    INPUTS,
    LABELS,
    Estimate,
    Float64Array,
    Int64Array,
)
from fedcircuit.analysis.estimators.kolchinsky import kolchinsky_tracey_inputs
from fedcircuit.analysis.estimators.ksg import ksg_joint, ksg_pair
from fedcircuit.analysis.estimators.layer import label_information, layer_information
from fedcircuit.analysis.estimators.settings import (
    INPUT_ESTIMATORS,
    LABEL_ESTIMATORS,
    CriticSettings,
    InformationSettings,
)

__all__ = [
    "CONSTANT",
    "CriticSettings",
    "Estimate",
    "Float64Array",
    "INPUTS",
    "INPUT_ESTIMATORS",
    "InformationSettings",
    "Int64Array",
    "LABELS",
    "LABEL_ESTIMATORS",
    "bin_codes",
    "critic_information",
    "entropy",
    "kolchinsky_tracey_inputs",
    "ksg_joint",
    "ksg_pair",
    "label_information",
    "layer_information",
]
