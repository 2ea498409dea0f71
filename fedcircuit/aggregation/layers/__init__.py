"""Rules that change how layers are averaged: by entry, by unit, or after aligning units."""

from fedcircuit.aggregation.layers.conflict_projection import ConflictProjection
from fedcircuit.aggregation.layers.covered_average import CoveredAverage
from fedcircuit.aggregation.layers.fisher import Fisher
from fedcircuit.aggregation.layers.importance_fit import (
    HeldOut,
    ImportanceFit,
    ProxyRun,
    fit_importance,
    shapley_of_two,
)
from fedcircuit.aggregation.layers.livar_layers import LivarLayers
from fedcircuit.aggregation.layers.ties import Ties
from fedcircuit.aggregation.layers.weight_matching import WeightMatching

__all__ = [
    "HeldOut",
    "ImportanceFit",
    "LivarLayers",
    "ProxyRun",
    "fit_importance",
    "shapley_of_two",
    "ConflictProjection",
    "CoveredAverage",
    "Fisher",
    "Ties",
    "WeightMatching",
]
