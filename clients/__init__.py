"""Flower client side: NumPyClients that train weight-sparse networks, and ClientApps of them."""

if __name__ != "fedcircuit.clients":
    raise ImportError(
        f"this package is fedcircuit.clients, it was imported as {__name__!r}; "
        "write 'from fedcircuit.clients import ...'"
    )

from fedcircuit.clients import memory
from fedcircuit.clients.app import client_app
from fedcircuit.clients.bridge import numpyclient_mod
from fedcircuit.clients.circuits import ClientCircuits
from fedcircuit.clients.own_tensors import FedBNMod
from fedcircuit.clients.sparse_client import SparseClient

__all__ = ["ClientCircuits", "FedBNMod", "SparseClient", "client_app", "memory", "numpyclient_mod"]
