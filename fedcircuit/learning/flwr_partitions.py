"""Partitions drawn by the partitioners of flwr-datasets (the extra ``data``)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fedcircuit.learning.partitions import Labels, Partition


class Partitioner(Protocol):
    """What is used of a partitioner of flwr-datasets."""

    dataset: Any

    @property
    def num_partitions(self) -> int:
        """Number of clients."""
        ...

    def load_partition(self, partition_id: int) -> Any:
        """The rows of one client."""
        ...


def from_partitioner(partitioner: Partitioner, labels: Labels) -> Partition:
    """The partition that a partitioner makes of the labels.

    It is given a data set of labels (column ``label``) and positions alone, which draws the same
    positions as the full data set, without the images and without the hub.

    Raises
    ------
    ImportError
        If flwr-datasets is not installed.
    ValueError
        If a client gets no sample.
    """
    try:
        from datasets import Dataset
    except ImportError as error:
        raise ImportError(
            'partitioners of flwr-datasets need it installed: pip install "fedcircuit[data]"'
        ) from error
    rows = {"label": labels.tolist(), "position": list(range(len(labels)))}
    partitioner.dataset = Dataset.from_dict(rows)
    parts = [
        np.sort(np.asarray(partitioner.load_partition(index)["position"], dtype=np.int64))
        for index in range(partitioner.num_partitions)
    ]
    for client, part in enumerate(parts):
        if len(part) == 0:
            raise ValueError(f"the partitioner gives client {client} no sample; change its options")
    dealt = sum(len(part) for part in parts)
    left = len(labels) - dealt
    notes = (f"{left} of {len(labels)} samples belong to nobody",) if left > 0 else ()
    return Partition(type(partitioner).__name__, tuple(parts), notes)
