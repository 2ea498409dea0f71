"""Discovery methods: one file a method, and their names in configurations."""

from fedcircuit.circuits.methods.attribution import Attribution
from fedcircuit.circuits.methods.fedmi import FedMI
from fedcircuit.circuits.methods.gates import LearnedGates
from fedcircuit.circuits.methods.integrated import Integrated
from fedcircuit.circuits.methods.iterative import Iterative
from fedcircuit.circuits.methods.leave_one_out import LeaveOneOut
from fedcircuit.circuits.methods.magnitude import Magnitude
from fedcircuit.circuits.methods.mean_activation import MeanActivation
from fedcircuit.circuits.methods.named import METHOD_NAMES, discovery_method
from fedcircuit.circuits.methods.random_scores import RandomScores

__all__ = [
    "Attribution",
    "FedMI",
    "Integrated",
    "Iterative",
    "LearnedGates",
    "LeaveOneOut",
    "METHOD_NAMES",
    "Magnitude",
    "MeanActivation",
    "RandomScores",
    "discovery_method",
]
