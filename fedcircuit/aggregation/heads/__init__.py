"""Rules that change the last linear layer alone: which client makes which row of it."""

from fedcircuit.aggregation.heads.head import (
    Head,
    class_counts,
    find_head,
    said_by_class,
    with_rows,
)
from fedcircuit.aggregation.heads.livar_head import LivarHead

__all__ = ["Head", "LivarHead", "class_counts", "find_head", "said_by_class", "with_rows"]
