"""How much circuits share, beside what they share by chance."""

from typing import TYPE_CHECKING

from fedcircuit.circuits.overlap.chance import Floats, Ints
from fedcircuit.circuits.overlap.class_overlap import ModelMasks, class_swap
from fedcircuit.circuits.overlap.distributions import binomial_tails
from fedcircuit.circuits.overlap.false_discoveries import false_discovery
from fedcircuit.circuits.overlap.jaccard import (
    ALL_LAYERS,
    Overlap,
    OverlapTable,
    Side,
    all_overlaps,
    iou,
    layer_overlaps,
    paired_overlaps,
)
from fedcircuit.circuits.overlap.weighted_iou import ScoredSide, weighted_overlaps

__all__ = [
    "ALL_LAYERS",
    "Floats",
    "Ints",
    "ModelMasks",
    "Overlap",
    "OverlapTable",
    "ScoredSide",
    "Side",
    "all_overlaps",
    "binomial_tails",
    "class_swap",
    "false_discovery",
    "iou",
    "layer_overlaps",
    "paired_overlaps",
    "weighted_overlaps",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
