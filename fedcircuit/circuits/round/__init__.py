"""The models of one round: their circuits found, checked, compared and judged."""

from fedcircuit.circuits.round.model_circuits import (
    ModelCircuits,
    Search,
    circuit_functions,
    circuits_of_model,
)
from fedcircuit.circuits.round.round_circuits import (
    GLOBAL,
    RoundCircuits,
    RoundTask,
    analyse_round,
    load_weights,
)
from fedcircuit.circuits.round.sent_circuits import (
    MessageValue,
    SentCircuits,
    as_scalars,
    from_message,
    to_message,
)
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.circuits.round.stability import corrected_overlap, swapped_halves
from fedcircuit.circuits.round.timing import Clock, stream

__all__ = [
    "CircuitSettings",
    "Clock",
    "GLOBAL",
    "MessageValue",
    "ModelCircuits",
    "RoundCircuits",
    "RoundTask",
    "Search",
    "SentCircuits",
    "analyse_round",
    "as_scalars",
    "circuit_functions",
    "circuits_of_model",
    "corrected_overlap",
    "from_message",
    "load_weights",
    "stream",
    "swapped_halves",
    "to_message",
]
