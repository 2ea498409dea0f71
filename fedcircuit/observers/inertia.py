"""Layer inertia of every round, while the federation runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedcircuit.analysis.inertia import (
    INDEX_COLUMNS,
    LAYER_COLUMNS,
    SNAPSHOT_ROUND,
    ClientUpdate,
    RoundWeights,
    round_inertia,
)
from fedcircuit.learning import Weights
from fedcircuit.records.rounds import Observation, RoundView, Table


class InertiaObserver:
    """Tables ``inertia`` and ``inertia_index`` of :mod:`fedcircuit.analysis.inertia.layer_inertia`.

    ``inertia`` has a row a layer: layer, u, r, drift, cosine, m, kappa. ``inertia_index`` has one
    row: index, start. It keeps one copy of the layers, the snapshot.

    Parameters
    ----------
    snapshot
        Global weights after ``snapshot_round``, where a run goes on after that round; without
        them drift and cosine stay NaN. None for a run that begins.
    snapshot_round
        The round, 1-based, after which the snapshot is taken.
    layers
        Names of tensors to look at, in the order of the model; None is all of floating point that
        are no running statistics. Those are told by their names, so give the layers where the
        tensors have numbers for names.

    Raises
    ------
    ValueError
        If ``snapshot_round`` is below 1.
    """

    name = "inertia"

    def __init__(
        self,
        snapshot: Weights | None = None,
        *,
        snapshot_round: int = SNAPSHOT_ROUND,
        layers: Sequence[str] | None = None,
    ) -> None:
        if snapshot_round < 1:
            raise ValueError(f"snapshot_round must be >= 1, got {snapshot_round}")
        self._snapshot = snapshot
        self._snapshot_round = snapshot_round
        self._layers = None if layers is None else tuple(layers)

    def __call__(self, view: RoundView) -> Observation:
        """Movement of every layer, and the index of the round."""
        if view.round == self._snapshot_round:
            self._snapshot = view.after
        known = self._snapshot if view.round >= self._snapshot_round else None
        weights = RoundWeights(view.round, view.before, view.after, _updates(view))
        result = round_inertia(weights, known, layers=self._layers)
        return Observation(
            {
                "inertia": Table(LAYER_COLUMNS, result.layer_cells),
                "inertia_index": Table(INDEX_COLUMNS, (result.index_cells,)),
            }
        )


def _updates(view: RoundView) -> Iterator[ClientUpdate]:
    for client in view.clients:
        start = client.start(view.before) if client.received else None
        yield ClientUpdate(client.num_examples, client.weights, start)
