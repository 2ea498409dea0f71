"""Discovery methods: one file per method, one protocol."""

from fedcircuit.circuits.discovery.attribution import Attribution
from fedcircuit.circuits.discovery.fedmi import FedMI
from fedcircuit.circuits.discovery.gates import LearnedGates
from fedcircuit.circuits.discovery.integrated import Integrated
from fedcircuit.circuits.discovery.iterative import Iterative
from fedcircuit.circuits.discovery.leave_one_out import LeaveOneOut
from fedcircuit.circuits.discovery.magnitude import Magnitude
from fedcircuit.circuits.discovery.mean_activation import MeanActivation
from fedcircuit.circuits.discovery.named import METHOD_NAMES, discovery_method
from fedcircuit.circuits.discovery.protocol import (
    Cost,
    Curve,
    Discovery,
    DiscoveryMethod,
    Sizing,
    Task,
)
from fedcircuit.circuits.discovery.random_scores import RandomScores
from fedcircuit.circuits.discovery.scored import (
    Mass,
    Scored,
    ScoredMethod,
    Scorer,
    SizeRule,
    size_rule,
)

__all__ = [
    "METHOD_NAMES",
    "Attribution",
    "Cost",
    "Curve",
    "Discovery",
    "DiscoveryMethod",
    "FedMI",
    "Integrated",
    "Iterative",
    "LearnedGates",
    "LeaveOneOut",
    "Magnitude",
    "Mass",
    "MeanActivation",
    "RandomScores",
    "Scored",
    "ScoredMethod",
    "Scorer",
    "SizeRule",
    "Sizing",
    "Task",
    "discovery_method",
]
