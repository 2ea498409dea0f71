"""What a client remembers from round to round: arrays in Flower's ``context.state``.

A node keeps them for one run; nothing is pickled. What is remembered is lost when a run stops, and
a client that remembers nothing does as in its first round.
"""

from __future__ import annotations

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray

from fedcircuit.clients.arrays import array_record
from fedcircuit.learning import Weights
from fedcircuit.wire import decoded

OPTIMIZER = "training/optimizer"
PATH_IMPORTANCE = "training/path-importance"


def recalled(context: Context, key: str) -> dict[str, NDArray[np.generic]]:
    """Arrays that the node remembers under a key; empty where it remembers none."""
    record = context.state.array_records.get(key)
    return {} if record is None else {name: decoded(array) for name, array in record.items()}


def keep(context: Context, key: str, arrays: Weights) -> None:
    """Keep arrays under a key, in place of what was there."""
    context.state[key] = array_record(
        {name: np.asarray(values, order="C") for name, values in arrays.items()}
    )
