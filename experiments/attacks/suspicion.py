"""Statistics of every client in every round, from a run folder: its circuits, and its update.

Of its circuits:

- ``overlap``: chance-adjusted IoU with another client's circuit of the same class, the median over
  the other clients, the mean over the classes where it is defined;
- ``valid``: share of the classes that have a valid circuit in the client's model;
- ``carried``: balanced accuracy of the client's circuits inside the global weights, the mean over
  the classes that have one.

Without circuits: the logarithm of the ``norm`` of the update, its ``cosine`` with the median
update, the share of ``zeros`` among the weights, and the ``accuracy`` of the client's model on the
probe.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from fedcircuit import CircuitStack, Run
from fedcircuit.circuits.overlap import ALL_LAYERS, Floats, Side, paired_overlaps
from fedcircuit.records.files import Array

OF_CIRCUITS = ("overlap", "valid", "carried")
WITHOUT = ("norm", "cosine", "zeros", "accuracy")
SIDES: dict[str, Literal["low", "both"]] = {  # which values are suspicious
    "overlap": "low", "valid": "low", "carried": "low",
    "norm": "both", "cosine": "low", "zeros": "both", "accuracy": "low",
}  # fmt: skip
LEAST_NORM = 1e-12


def client_statistics(run: Run) -> pd.DataFrame:
    """A row for each round and client whose reply was accepted; undefined is NaN."""
    known = run.table("updates").set_index(["round", "client"])
    validity = run.table("validity")
    valid = validity.assign(valid=validity["status"] == "valid").rename(columns={"model": "client"})
    function = run.table("function").query("direction == 'local_in_global'")
    frame = pd.DataFrame(
        {
            "overlap": _overlaps(run),
            "valid": valid.groupby(["round", "client"])["valid"].mean(),
            "carried": function.groupby(["round", "client"])["balanced_accuracy"].mean(),
            "norm": np.log(known["norm"].clip(lower=LEAST_NORM)),
            "cosine": known["cosine"],
            "zeros": known["zeros"],
            "accuracy": known["probe_accuracy"],
        }
    )
    return frame.reindex(known.index).reset_index()  # the global model's circuits are left out


def _overlaps(run: Run) -> pd.Series[float]:
    found: dict[tuple[int, str], float] = {}
    for number in run.rounds:
        stack = run.masks(number)
        if stack is None or len(stack.models) < 3:
            continue
        values = overlap_with_others(stack, run.observed(number, "circuits")["live"])
        found |= {(number, model): value for model, value in values.items()}
    index = pd.MultiIndex.from_tuples(list(found), names=["round", "client"])
    return pd.Series(list(found.values()), index=index, dtype=float)


def overlap_with_others(stack: CircuitStack, live: Array) -> dict[str, float]:
    """The statistic ``overlap`` of every client of a round.

    Parameters
    ----------
    stack
        Circuits of the global model and of the clients.
    live
        Live units ``[models, units]`` bool.
    """
    return {
        client: float(np.mean(known)) if len(known := medians[~np.isnan(medians)]) else math.nan
        for client, medians in overlaps_by_class(stack, live).items()
    }


def overlaps_by_class(stack: CircuitStack, live: Array) -> dict[str, Floats]:
    """Of every client, each class's median over the other clients, ``[classes]``; or NaN."""
    clients = [row for row, model in enumerate(stack.models) if model != "global"]
    pairs = list(combinations(clients, 2))
    first, second = (_side(stack, live, [pair[end] for pair in pairs]) for end in (0, 1))
    table = paired_overlaps(first, second, stack.sites)
    adjusted = table.adjusted[:, table.layers.index(ALL_LAYERS)].reshape(len(pairs), -1)
    rows: dict[int, list[Floats]] = {client: [] for client in clients}
    for (a, b), of_classes in zip(pairs, adjusted, strict=True):
        rows[a].append(of_classes)
        rows[b].append(of_classes)
    return {stack.models[row]: medians(np.array(own)) for row, own in rows.items()}


def _side(stack: CircuitStack, live: Array, models: list[int]) -> Side:
    return Side(
        stack.masks[models].flatten(0, 1),
        stack.found[models].flatten(),
        np.repeat(live[models], stack.n_classes, axis=0),
    )


def medians(values: Floats) -> Floats:
    """Median of the defined values of each column; NaN where there are none."""
    columns = [column[~np.isnan(column)] for column in values.T]
    return np.array([np.median(column) if len(column) else math.nan for column in columns])
