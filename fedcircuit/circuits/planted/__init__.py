"""Networks whose class circuits are known because their weights are set by hand."""

from fedcircuit.circuits.planted.client_plans import Fate
from fedcircuit.circuits.planted.cnn import planted_cnn
from fedcircuit.circuits.planted.federation import PlantedFederation, planted_federation
from fedcircuit.circuits.planted.mlp import planted_mlp
from fedcircuit.circuits.planted.network import CASES, HARD, PlantedNetwork
from fedcircuit.circuits.planted.score import Score, f1

__all__ = [
    "CASES",
    "Fate",
    "HARD",
    "PlantedFederation",
    "PlantedNetwork",
    "Score",
    "f1",
    "planted_cnn",
    "planted_federation",
    "planted_mlp",
]
