"""Flower server side: observing any strategy, and FedAvg with circuits."""

if __name__ != "fedcircuit.strategies":
    raise ImportError(
        f"this package is fedcircuit.strategies, it was imported as {__name__!r}; "
        "write 'from fedcircuit.strategies import ...'"
    )

from fedcircuit.strategies.circuit_fedavg import CircuitFedAvg
from fedcircuit.strategies.lips import LIPS
from fedcircuit.strategies.mending import Guard, Mended
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording import RecorderOptions
from fedcircuit.strategies.replies import AllClientsFailedError

__all__ = [
    "LIPS",
    "AllClientsFailedError",
    "CircuitFedAvg",
    "Guard",
    "Mended",
    "RecorderOptions",
    "observe",
]
