"""Rules that change the last linear layer alone: which client makes which row of it."""

from fedcircuit.aggregation.heads.ccvr import CCVR
from fedcircuit.aggregation.heads.circuit_calibration import CircuitCalibration
from fedcircuit.aggregation.heads.class_count import ClassCountHead
from fedcircuit.aggregation.heads.head import (
    Head,
    class_counts,
    find_head,
    said_by_class,
    with_rows,
)
from fedcircuit.aggregation.heads.livar_head import LivarHead
from fedcircuit.aggregation.heads.logit_offsets import LogitOffsets
from fedcircuit.aggregation.heads.moments import Moments, moments_of
from fedcircuit.aggregation.heads.refit import Refit

__all__ = [
    "LivarHead",
    "CCVR",
    "CircuitCalibration",
    "ClassCountHead",
    "Head",
    "LogitOffsets",
    "Moments",
    "Refit",
    "class_counts",
    "find_head",
    "moments_of",
    "said_by_class",
    "with_rows",
]
