"""The core: what a circuit is, how it is found, checked and compared."""

from fedcircuit.circuits.circuit import (
    MOST_COLUMNS,
    Circuit,
    CircuitStack,
    Masks,
    OfClasses,
    Site,
    circuit_of,
    class_row,
    site_slices,
    split_by_site,
)

__all__ = [
    "Circuit",
    "CircuitStack",
    "MOST_COLUMNS",
    "Masks",
    "OfClasses",
    "Site",
    "circuit_of",
    "class_row",
    "site_slices",
    "split_by_site",
]
