"""Who holds what: the samples of every client."""

from typing import TYPE_CHECKING

from fedcircuit.learning.partitions import partition
from fedcircuit.learning.partitions.flwr_partitioners import from_partitioner, partitioner
from fedcircuit.learning.partitions.natural_clients import natural
from fedcircuit.learning.partitions.partition import (
    Partition,
    PartitionSummary,
    by_classes,
    dirichlet,
    iid,
    label_sorted,
    low_data,
    quantity_skew,
    summary,
)
from fedcircuit.learning.partitions.personal_tests import personal_test

__all__ = [
    "Partition",
    "PartitionSummary",
    "by_classes",
    "dirichlet",
    "from_partitioner",
    "iid",
    "label_sorted",
    "low_data",
    "natural",
    "partition",
    "partitioner",
    "personal_test",
    "quantity_skew",
    "summary",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
