"""What a report shows, as small tables and sentences."""

from typing import TYPE_CHECKING

from fedcircuit.report.tables import counts, overlaps
from fedcircuit.report.tables.counts import (
    accuracy,
    class_recall,
    client_validity,
    empty,
    frame,
    functions,
    has,
    judged,
    natural_order,
    sizes,
    verdict_counts,
)
from fedcircuit.report.tables.inertia import (
    TOP_MOVEMENT,
    inertia_of_run,
    inertia_tables,
    short,
    thinned,
    weight_layers,
)
from fedcircuit.report.tables.information import (
    MODELS,
    QUANTITIES,
    accuracies,
    by_layer,
    ceiling,
    curves,
    estimator_name,
    estimators,
    evenly,
    gaps,
    is_logarithmic,
    settings_of,
)
from fedcircuit.report.tables.packed_circuits import circuit_bits
from fedcircuit.report.tables.plain import grid, records
from fedcircuit.report.tables.questions import question_rows
from fedcircuit.report.tables.verdict_text import headline, sentences
from fedcircuit.report.tables.words import STATUS_NAMES, STATUSES, VERDICT_NAMES, VERDICTS, Word

__all__ = [
    "MODELS",
    "QUANTITIES",
    "STATUSES",
    "STATUS_NAMES",
    "TOP_MOVEMENT",
    "VERDICTS",
    "VERDICT_NAMES",
    "Word",
    "accuracies",
    "accuracy",
    "by_layer",
    "ceiling",
    "circuit_bits",
    "class_recall",
    "client_validity",
    "counts",
    "curves",
    "empty",
    "estimator_name",
    "estimators",
    "evenly",
    "frame",
    "functions",
    "gaps",
    "grid",
    "has",
    "headline",
    "inertia_of_run",
    "inertia_tables",
    "is_logarithmic",
    "judged",
    "natural_order",
    "overlaps",
    "question_rows",
    "records",
    "sentences",
    "settings_of",
    "short",
    "sizes",
    "thinned",
    "verdict_counts",
    "weight_layers",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
