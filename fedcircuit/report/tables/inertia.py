"""Layer inertia of a run: as its observer recorded it, or computed from the weights on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from weakref import WeakKeyDictionary

import pandas as pd

from fedcircuit.analysis.inertia import (
    INDEX_COLUMNS,
    LAYER_COLUMNS,
    SNAPSHOT_ROUND,
    ClientUpdate,
    RoundWeights,
    inertia_over_rounds,
)
from fedcircuit.records.files import Array
from fedcircuit.records.rounds import RoundRecord, Table, table_to_json
from fedcircuit.records.runs import Frames, Run
from fedcircuit.report.tables import counts as tables

LAYERS, INDEX = "inertia", "inertia_index"  # names of the tables
MOST_NUMBERS = 100_000_000  # weights that a report reads to compute what was not recorded
TOP_MOVEMENT = 10.0  # relative movement beyond which shades tell no difference: it began at zero
DIGITS = 3  # significant ones


@dataclass(frozen=True)
class InertiaTables:
    """The measures of :mod:`fedcircuit.analysis.inertia.layer_inertia` over all rounds.

    Parameters
    ----------
    layers
        ``round, layer, path, u, r, drift, cosine, m, kappa``: one row a round and layer.
    index
        ``round, index, start``: one row a round.
    """

    layers: pd.DataFrame
    index: pd.DataFrame


def inertia_of_run(
    run: Run,
    *,
    snapshot_round: int = SNAPSHOT_ROUND,
    layers: Sequence[str] | None = None,
    clients: bool = True,
) -> InertiaTables:
    """Layer inertia from the weights of a run folder, whatever its strategy.

    The tables are exactly those that the observer records, to nine significant digits. Rounds
    are read one after the other, each with the weights of all its clients.

    Parameters
    ----------
    run
        With at least one round.
    snapshot_round
        Drift and cosine refer to the global weights after this round.
    layers
        Names of tensors; None is all of floating point that are no running statistics.
    clients
        Read the clients' weights too; without them, as in a run that keeps none, ``m`` and
        ``kappa`` are NaN. From half-precision differences (``storage.updates: delta-fp16``) they
        come out with about three digits.

    Raises
    ------
    ValueError
        If the run has no round yet.
    RunError
        If a round cannot be read.
    """
    if not run.rounds:
        raise ValueError(f"{run.path} has no round yet: inertia is the movement in a round")
    frames = Frames()
    for found in inertia_over_rounds(
        _rounds(run, clients=clients), snapshot_round=snapshot_round, layers=layers
    ):
        seen = {
            LAYERS: Table(LAYER_COLUMNS, found.layer_cells),
            INDEX: Table(INDEX_COLUMNS, (found.index_cells,)),
        }
        written = {name: table_to_json(table) for name, table in seen.items()}
        frames.add(found.round, {LAYERS: written})
    return InertiaTables(run.layer_names.named(frames.frame(LAYERS)), frames.frame(INDEX))


def _rounds(run: Run, *, clients: bool) -> Iterator[RoundWeights]:
    before = run.weights(0)
    for number in run.rounds:
        if clients:
            record = run.record(number)
            after = dict(record.weights)
            yield RoundWeights(number, before, after, _updates(record, before))
        else:
            after = run.weights(number)
            yield RoundWeights(number, before, after)
        before = after


def _updates(record: RoundRecord, before: Mapping[str, Array]) -> Iterator[ClientUpdate]:
    for client in record.clients:
        if client.weights:
            start = client.start(before) if client.received else None
            yield ClientUpdate(client.num_examples, client.weights, start)


# computing them takes seconds, and the page and the figures ask for the same
_KNOWN: WeakKeyDictionary[Run, InertiaTables | None] = WeakKeyDictionary()


def inertia_tables(run: Run) -> InertiaTables | None:
    """What a report says of layer inertia; None where that is nothing.

    What the observer recorded comes first. Else the tables are computed from the weights on disk
    if that takes reading at most ``MOST_NUMBERS`` numbers; without the clients' weights where
    only these are too many.
    """
    if run not in _KNOWN:
        _KNOWN[run] = _found(run)
    return _KNOWN[run]


def _found(run: Run) -> InertiaTables | None:
    if tables.has(run, LAYERS, INDEX):
        return InertiaTables(tables.frame(run, LAYERS), tables.frame(run, INDEX))
    if not run.rounds:
        return None
    size = sum(values.size for values in run.weights(0).values())
    whole, n_clients = size * (len(run.rounds) + 1), len(run.clients)
    if whole > MOST_NUMBERS:
        return None
    return inertia_of_run(run, clients=whole + size * n_clients <= MOST_NUMBERS)


def weight_layers(run: Run, found: InertiaTables) -> list[str]:
    """Layers with more than one axis, in order: those that count in the index."""
    shapes = {name: values.ndim for name, values in run.weights(0).items()}
    layers = found.layers[["layer", "path"]].drop_duplicates().itertuples(index=False)
    return [str(name) for name, path in layers if shapes.get(path, 0) > 1]


def thinned(rounds: list[int], most: int) -> list[int]:
    """At most this many of the rounds, evenly spaced, the last always among them."""
    step = ceil(len(rounds) / most)
    return [int(number) for number in rounds[::-1][::step]][::-1]


def short(value: float) -> float | None:
    """A number to three significant digits; None where it is not defined."""
    return float(f"{value:.{DIGITS}g}") if isfinite(value) else None
