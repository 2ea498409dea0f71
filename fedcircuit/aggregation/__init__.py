"""The mathematics of aggregation rules: one file a rule, pure functions."""

from fedcircuit.aggregation import lips, named
from fedcircuit.aggregation.lips import Include, LipsSettings, masked, unpacked
from fedcircuit.aggregation.named import NEEDS, RULE_NAMES, lacking
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
from fedcircuit.aggregation.tensors import moved, packed_tensors, result, said_tensors, trained

__all__ = [
    "NEEDS",
    "NO_STATE",
    "RULE_NAMES",
    "Rule",
    "RuleError",
    "Said",
    "Setting",
    "State",
    "Update",
    "Updates",
    "Include",
    "LipsSettings",
    "lacking",
    "lips",
    "masked",
    "moved",
    "named",
    "packed_tensors",
    "result",
    "said_tensors",
    "trained",
    "unpacked",
]
