"""Flower's legacy strategy API (``flwr.server.strategy``)."""

from fedcircuit.strategies.legacy_api.mended import Mended
from fedcircuit.strategies.legacy_api.resuming import put_legacy_resume
from fedcircuit.strategies.legacy_api.strategy import is_legacy, observe_legacy

__all__ = [
    "Mended",
    "is_legacy",
    "observe_legacy",
    "put_legacy_resume",
]
