"""Natural partitions: the clients that the data come with, such as writers or hospitals."""

from __future__ import annotations

import numpy as np

from fedcircuit.learning import derived_seed
from fedcircuit.learning.partitions.partition import Partition
from fedcircuit.learning.sources import Array


def natural(
    values: Array, column: str, n_clients: int | None = None, *, seed: int = 0
) -> Partition:
    """One client for each value of a column, in the order of the values.

    Parameters
    ----------
    values
        ``[n]``, whole numbers or text: whose each training sample is.
    column
        Their name.
    n_clients
        None: all. Fewer than there are values: so many are drawn by the seed, the others are left
        out, and a note says so.
    seed
        Of the draw.

    Raises
    ------
    ValueError
        If there are fewer values than clients.
    """
    names, owner = np.unique(values, return_inverse=True)
    chosen = np.arange(len(names))
    notes: tuple[str, ...] = ()
    if n_clients is not None and n_clients > len(names):
        raise ValueError(
            f"column {column!r} has {len(names)} values, one a client; partition.clients is "
            f"{n_clients}: use fewer, or leave it out"
        )
    if n_clients is not None and n_clients < len(names):
        rng = np.random.default_rng(derived_seed(seed, "natural"))
        chosen = np.sort(rng.choice(len(names), size=n_clients, replace=False))
        left = len(values) - int(np.isin(owner, chosen).sum())
        notes = (
            f"{n_clients} of {len(names)} values of {column!r} drawn; {left} samples of the others "
            "belong to nobody",
        )
    order = np.argsort(owner, kind="stable").astype(np.int64)
    ends = np.cumsum(np.bincount(owner, minlength=len(names)))
    parts = np.split(order, ends[:-1])
    return Partition(
        "natural",
        tuple(parts[index] for index in chosen),
        (f"one client for each value of {column!r}", *notes),
        tuple(str(names[index]) for index in chosen),
    )
