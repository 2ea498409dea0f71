"""The information plane: what layers and circuits know of inputs and labels."""

from fedcircuit.analysis.estimators import (
    INPUT_ESTIMATORS,
    LABEL_ESTIMATORS,
    CriticSettings,
    Estimate,
    Float64Array,
    InformationSettings,
    Int64Array,
    label_information,
    layer_information,
)
from fedcircuit.analysis.information.activations import Spatial, pool_activations
from fedcircuit.analysis.information.circuit_units import (
    About,
    BoolArray,
    RandomUnits,
    circuit_information,
    masks_of,
    unit_values,
)
from fedcircuit.analysis.information.plane import (
    GAP_COLUMNS,
    MEAN,
    PLANE_COLUMNS,
    ModelPlane,
    PlaneSettings,
    common_setting,
    mean_plane,
    model_plane,
    plane_gaps,
)
from fedcircuit.analysis.information.pool import logarithmic_rounds, stratified_pool

__all__ = [
    "About",
    "BoolArray",
    "CriticSettings",
    "Estimate",
    "Float64Array",
    "GAP_COLUMNS",
    "INPUT_ESTIMATORS",
    "InformationSettings",
    "Int64Array",
    "LABEL_ESTIMATORS",
    "MEAN",
    "ModelPlane",
    "PLANE_COLUMNS",
    "PlaneSettings",
    "RandomUnits",
    "Spatial",
    "circuit_information",
    "common_setting",
    "label_information",
    "layer_information",
    "logarithmic_rounds",
    "masks_of",
    "mean_plane",
    "model_plane",
    "plane_gaps",
    "pool_activations",
    "stratified_pool",
    "unit_values",
]
