"""A round as values, and as a line and a file on disk."""

from typing import TYPE_CHECKING

from fedcircuit.records.rounds.client_weights import Storage
from fedcircuit.records.rounds.manifest import build_manifest, plain, versions
from fedcircuit.records.rounds.plain_values import (
    Json,
    cell_from_json,
    column_cells,
    metric_to_json,
    metrics_from_json,
    metrics_to_json,
    table_from_json,
    table_to_json,
    value_to_json,
)
from fedcircuit.records.rounds.round_files import (
    RoundFile,
    client_group,
    observation_group,
    received_group,
    round_bytes,
    round_from,
)
from fedcircuit.records.rounds.round_lines import checked_line, record_to_json, to_line
from fedcircuit.records.rounds.round_record import (
    GLOBAL,
    NOT_FINITE_LOGITS,
    RETURNED,
    Cell,
    ClientRecord,
    Failure,
    Metric,
    Observation,
    Observer,
    RoundRecord,
    RoundView,
    Table,
)

__all__ = [
    "Cell",
    "ClientRecord",
    "Failure",
    "GLOBAL",
    "Json",
    "Metric",
    "NOT_FINITE_LOGITS",
    "Observation",
    "Observer",
    "RETURNED",
    "RoundFile",
    "RoundRecord",
    "RoundView",
    "Storage",
    "Table",
    "build_manifest",
    "cell_from_json",
    "checked_line",
    "client_group",
    "column_cells",
    "metric_to_json",
    "metrics_from_json",
    "metrics_to_json",
    "observation_group",
    "plain",
    "received_group",
    "record_to_json",
    "round_bytes",
    "round_from",
    "table_from_json",
    "table_to_json",
    "to_line",
    "value_to_json",
    "versions",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
