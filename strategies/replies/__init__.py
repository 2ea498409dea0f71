"""Replies of clients as plain values: what is taken of them, and how much."""

from fedcircuit.strategies.replies.agreement import Dtypes, agreed, differing
from fedcircuit.strategies.replies.failures import AllClientsFailedError, ClientError, readable
from fedcircuit.strategies.replies.limits import (
    client_name,
    kept_extra,
    kept_metrics,
    short,
    with_entry,
)
from fedcircuit.strategies.replies.reply import (
    Limits,
    Reply,
    client_order,
    fault_of,
    first_non_finite,
    odd_ones,
    same_kind,
)

__all__ = [
    "AllClientsFailedError",
    "ClientError",
    "Dtypes",
    "Limits",
    "Reply",
    "agreed",
    "client_name",
    "client_order",
    "differing",
    "fault_of",
    "first_non_finite",
    "kept_extra",
    "kept_metrics",
    "odd_ones",
    "readable",
    "same_kind",
    "short",
    "with_entry",
]
