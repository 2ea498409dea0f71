"""Rules that merge the layers of the body: which client makes how much of each of them."""

from fedcircuit.aggregation.layers.importance_fit import (
    HeldOut,
    ImportanceFit,
    ProxyRun,
    fit_importance,
    shapley_of_two,
)
from fedcircuit.aggregation.layers.livar_layers import LivarLayers

__all__ = [
    "HeldOut",
    "ImportanceFit",
    "LivarLayers",
    "ProxyRun",
    "fit_importance",
    "shapley_of_two",
]
