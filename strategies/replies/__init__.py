"""Replies of clients as plain values: what is taken of them, and how much."""

from typing import TYPE_CHECKING

from fedcircuit.strategies.replies.agreement import Dtypes, agreed, differing
from fedcircuit.strategies.replies.failures import AllClientsFailedError, ClientError, readable
from fedcircuit.strategies.replies.limits import (
    client_name,
    kept_extra,
    kept_metrics,
    short,
    with_entry,
)
from fedcircuit.strategies.replies.metric_forms import SharedMetrics, shared_metrics
from fedcircuit.strategies.replies.reply import (
    Limits,
    Reply,
    client_order,
    fault_of,
    first_non_finite,
    same_kind,
)

__all__ = [
    "AllClientsFailedError",
    "ClientError",
    "Dtypes",
    "Limits",
    "Reply",
    "SharedMetrics",
    "agreed",
    "client_name",
    "client_order",
    "differing",
    "fault_of",
    "first_non_finite",
    "kept_extra",
    "kept_metrics",
    "readable",
    "same_kind",
    "shared_metrics",
    "short",
    "with_entry",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
