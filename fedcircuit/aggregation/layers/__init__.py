"""Rules that change how layers are averaged: by entry, by unit, or after aligning units."""

from fedcircuit.aggregation.layers.conflict_projection import ConflictProjection
from fedcircuit.aggregation.layers.covered_average import CoveredAverage
from fedcircuit.aggregation.layers.fisher import Fisher
from fedcircuit.aggregation.layers.ties import Ties
from fedcircuit.aggregation.layers.weight_matching import WeightMatching

__all__ = ["ConflictProjection", "CoveredAverage", "Fisher", "Ties", "WeightMatching"]
