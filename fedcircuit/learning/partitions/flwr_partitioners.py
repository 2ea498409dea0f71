"""Partitions drawn by the partitioners of flwr-datasets (the extra ``data``)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol, cast

import numpy as np

from fedcircuit.learning.partitions.partition import Labels, Partition
from fedcircuit.learning.sources import Array


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


_MEND = 'partitioners of flwr-datasets need it installed: pip install "fedcircuit[data]"'


def partitioner(name: str, options: Mapping[str, Any], n_clients: int, *, seed: int) -> Partitioner:
    """A partitioner of flwr-datasets by the name of its class.

    Number of clients, label column and seed are given where the class takes them; ``options`` are
    its other arguments, or replace these.

    Raises
    ------
    ImportError
        If flwr-datasets is not installed.
    ValueError
        If there is no such class, or it does not take the options.
    """
    try:
        from flwr_datasets import partitioner as module
    except ImportError as error:
        raise ImportError(_MEND) from error
    if name not in module.__all__ or name == "Partitioner":
        known = ", ".join(sorted(set(module.__all__) - {"Partitioner"}))
        raise ValueError(f"flwr-datasets has no partitioner {name!r}; it has {known}")
    made_by = getattr(module, name)
    known_options = inspect.signature(made_by).parameters
    ours = {"num_partitions": n_clients, "partition_by": "label", "seed": seed % 2**32}
    given = {key: value for key, value in ours.items() if key in known_options}
    try:
        return cast("Partitioner", made_by(**{**given, **options}))
    except (TypeError, ValueError) as error:
        takes = ", ".join(key for key in known_options if key not in ours)
        raise ValueError(f"{error}; {name} takes the options {takes or 'none'}") from error


def from_partitioner(
    partitioner: Partitioner, labels: Labels, columns: Mapping[str, Array] | None = None
) -> Partition:
    """The partition that a partitioner makes of the labels.

    It is given a data set of labels (column ``label``), positions and the further columns alone,
    which draws the same positions as the full data set, without the images and without the hub.

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
        raise ImportError(_MEND) from error
    rows = {"label": labels.tolist()}
    rows |= {name: values.tolist() for name, values in (columns or {}).items() if name != "label"}
    place = "position"
    while place in rows:  # a column of the data by the same name
        place = f"_{place}"
    rows[place] = list(range(len(labels)))
    partitioner.dataset = Dataset.from_dict(rows)
    parts = [
        np.sort(np.asarray(partitioner.load_partition(index)[place], dtype=np.int64))
        for index in range(partitioner.num_partitions)
    ]
    for client, part in enumerate(parts):
        if len(part) == 0:
            raise ValueError(f"the partitioner gives client {client} no sample; change its options")
    dealt = sum(len(part) for part in parts)
    left = len(labels) - dealt
    notes = (f"{left} of {len(labels)} samples belong to nobody",) if left > 0 else ()
    return Partition(type(partitioner).__name__, tuple(parts), notes)
