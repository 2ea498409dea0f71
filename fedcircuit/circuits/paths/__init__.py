"""Which units and circuits can carry anything through non-zero weights."""

from fedcircuit.circuits.paths.connectivity import has_path, live_units

__all__ = [
    "has_path",
    "live_units",
]
