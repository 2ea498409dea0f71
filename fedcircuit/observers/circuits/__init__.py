"""The circuits of every round as tables and packed masks."""

from typing import TYPE_CHECKING

from fedcircuit.observers.circuits.circuit_tables import rounded
from fedcircuit.observers.circuits.observer import CircuitObserver
from fedcircuit.observers.circuits.overlap_tables import (
    OVERLAP_COLUMNS,
    SCORE_COLUMNS,
    SWAP_COLUMNS,
)

__all__ = [
    "CircuitObserver",
    "OVERLAP_COLUMNS",
    "SCORE_COLUMNS",
    "SWAP_COLUMNS",
    "rounded",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
