"""A folder of paired runs: what it says of itself, and which of its runs are finished."""

from fedcircuit.records.sweeps.folder import SWEEP, Sweep, is_sweep, read_sweep, write_sweep

__all__ = [
    "SWEEP",
    "Sweep",
    "is_sweep",
    "read_sweep",
    "write_sweep",
]
