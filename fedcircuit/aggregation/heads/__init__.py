"""Rules that change the head alone: the rows of the last layer, one a class."""

from fedcircuit.aggregation.heads.ccvr import CCVR
from fedcircuit.aggregation.heads.circuit_calibration import CircuitCalibration
from fedcircuit.aggregation.heads.class_count import ClassCountHead
from fedcircuit.aggregation.heads.linear_head import LinearHead, linear_head
from fedcircuit.aggregation.heads.logit_offsets import LogitOffsets
from fedcircuit.aggregation.heads.moments import Moments, moments_of
from fedcircuit.aggregation.heads.refit import Refit

__all__ = [
    "CCVR",
    "CircuitCalibration",
    "ClassCountHead",
    "LinearHead",
    "LogitOffsets",
    "Moments",
    "Refit",
    "linear_head",
    "moments_of",
]
