"""Weights as the records in which Flower sends and keeps them."""

from __future__ import annotations

from flwr.app import Array, ArrayRecord

from fedcircuit.learning import Weights
from fedcircuit.wire import array_fields


def array_record(weights: Weights) -> ArrayRecord:
    """Weights as an ArrayRecord of plain Arrays: the wire of a deployment knows no others."""
    record = ArrayRecord()  # its constructor would make every Array twice
    for name, values in weights.items():
        record[name] = Array(**array_fields(values))
    return record
