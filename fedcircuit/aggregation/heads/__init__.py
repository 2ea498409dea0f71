"""Rules that change the last linear layer alone: which client makes which row of it."""

from fedcircuit.aggregation.heads.head import (
    Head,
    class_counts,
    find_head,
    said_by_class,
    with_rows,
)

__all__ = ["Head", "class_counts", "find_head", "said_by_class", "with_rows"]
