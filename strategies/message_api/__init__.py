"""Flower's message API: the only place that reads messages."""

from fedcircuit.strategies.message_api.strategy import MessageHooks

__all__ = [
    "MessageHooks",
]
