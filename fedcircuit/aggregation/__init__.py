"""The mathematics of aggregation rules: one file a rule, pure functions."""

from fedcircuit.aggregation import lips
from fedcircuit.aggregation.lips import Include, LipsSettings, masked, unpacked

__all__ = [
    "Include",
    "LipsSettings",
    "lips",
    "masked",
    "unpacked",
]
