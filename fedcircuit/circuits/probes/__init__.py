"""The labelled samples on which circuits are found and checked, of whatever people hold them in."""

from fedcircuit.circuits.probes.fitted_probe import ProbeLike, as_probe, fitted, taken
from fedcircuit.circuits.probes.probe import Probe

__all__ = [
    "Probe",
    "ProbeLike",
    "as_probe",
    "fitted",
    "taken",
]
