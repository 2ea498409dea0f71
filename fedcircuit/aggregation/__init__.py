"""The mathematics of aggregation rules: what a rule is, and what all of them use."""

from fedcircuit.aggregation import lips
from fedcircuit.aggregation.controls import Control, ControlKind
from fedcircuit.aggregation.lips import Include, LipsSettings, kept_entries, masked, unpacked
from fedcircuit.aggregation.rule import (
    NO_STATE,
    Rule,
    RuleError,
    Said,
    Setting,
    State,
    Update,
    Updates,
)
from fedcircuit.aggregation.tensors import (
    COMES_WITH,
    Floats,
    class_shares,
    floating,
    hint,
    in_float64,
    loaded,
    moved,
    packed_tensors,
    result,
    said_array,
    said_number,
    said_tensors,
    trained,
)
from fedcircuit.aggregation.units import Masks, Span, circuits_of, feature_masks

__all__ = [
    "COMES_WITH",
    "NO_STATE",
    "Control",
    "ControlKind",
    "Floats",
    "Include",
    "LipsSettings",
    "Masks",
    "Rule",
    "RuleError",
    "Said",
    "Setting",
    "Span",
    "State",
    "Update",
    "Updates",
    "circuits_of",
    "class_shares",
    "feature_masks",
    "floating",
    "hint",
    "in_float64",
    "kept_entries",
    "lips",
    "loaded",
    "masked",
    "moved",
    "packed_tensors",
    "result",
    "said_array",
    "said_number",
    "said_tensors",
    "trained",
    "unpacked",
]
