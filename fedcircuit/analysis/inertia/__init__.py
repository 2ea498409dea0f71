"""Layer inertia: which layers of the global model still move."""

from typing import TYPE_CHECKING

from fedcircuit.analysis.inertia.layer_inertia import (
    INDEX_COLUMNS,
    INERT,
    LAYER_COLUMNS,
    SNAPSHOT_ROUND,
    LayerInertia,
    RoundInertia,
    RoundWeights,
    inertia_index,
    inertia_over_rounds,
    layer_names,
    round_inertia,
    share_inert,
)
from fedcircuit.analysis.inertia.movement import ClientUpdate

__all__ = [
    "ClientUpdate",
    "INDEX_COLUMNS",
    "INERT",
    "LAYER_COLUMNS",
    "LayerInertia",
    "RoundInertia",
    "RoundWeights",
    "SNAPSHOT_ROUND",
    "inertia_index",
    "inertia_over_rounds",
    "layer_names",
    "round_inertia",
    "share_inert",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
