"""Flower's message API: the only place that reads messages."""

from typing import TYPE_CHECKING

from fedcircuit.strategies.message_api.outgoing import ConfigEntry, put_in, replaced
from fedcircuit.strategies.message_api.replies import ReplyReader, weight_key, with_start
from fedcircuit.strategies.message_api.sent_weights import Downloads
from fedcircuit.strategies.message_api.strategy import Aggregate, MessageHooks

__all__ = [
    "Aggregate",
    "ConfigEntry",
    "Downloads",
    "MessageHooks",
    "ReplyReader",
    "put_in",
    "replaced",
    "weight_key",
    "with_start",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
