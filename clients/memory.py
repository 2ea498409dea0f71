"""What a client remembers from round to round: arrays in Flower's ``context.state``.

A node keeps them for one run; nothing is pickled. What is remembered is lost when a run stops, and
a client that remembers nothing does as in its first round, unless it is given what an earlier run
kept (``client_app(remembered=...)``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray

from fedcircuit.clients.arrays import array_record
from fedcircuit.clients.identity import partition_of
from fedcircuit.learning import Weights
from fedcircuit.wire import decoded

OPTIMIZER = "training/optimizer"  # the optimiser's state
PATH_IMPORTANCE = "training/path-importance"  # sums by weight
OWN = "training/own"  # tensors that the client keeps for itself, by the model's names
FEDDYN = "training/feddyn"  # the gradient that its rounds have settled on, by parameter
SCAFFOLD = "training/scaffold"  # its control variate, one array:
CONTROL = "control"  # float32, one tensor after another as they are exchanged

Memories = Mapping[str, Weights]  # what one client remembers, by the keys above


def recalled(context: Context, key: str) -> dict[str, NDArray[np.generic]]:
    """Arrays that the node remembers under a key; empty where it remembers none."""
    record = context.state.array_records.get(key)
    return {} if record is None else {name: decoded(array) for name, array in record.items()}


def keep(context: Context, key: str, arrays: Weights) -> None:
    """Keep arrays under a key, in place of what was there."""
    context.state[key] = array_record(
        {name: np.asarray(values, order="C") for name, values in arrays.items()}
    )


def recall_from_before(remembered: Mapping[int, Memories], context: Context) -> None:
    """Give a node, of what it does not remember itself, what an earlier run kept of its partition.

    Parameters
    ----------
    remembered
        By partition.
    context
        The node's.
    """
    if remembered:
        for key, arrays in remembered.get(partition_of(context), {}).items():
            if arrays and key not in context.state.array_records:
                keep(context, key, arrays)


def next_control(before: NDArray[np.float32], change: NDArray[np.float32]) -> NDArray[np.float32]:
    """SCAFFOLD's control variate of a client after a round, of what it was and what was sent."""
    after: NDArray[np.float32] = before + change
    return after
