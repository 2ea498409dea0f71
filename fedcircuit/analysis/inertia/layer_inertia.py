"""Layer inertia: which layers of the global model still move, and whether clients cancel out.

With ``G`` the global weights of a layer, ``D_k`` the change that client k made to the weights it
started from, ``p_k = n_k / sum n`` its share of the samples, and all norms Frobenius norms::

    u      = |G_after - G_before|                   movement
    r      = u / (|G_before| + eps)                 relative movement
    drift  = |G_after - G_snapshot| / |G_snapshot|  how far from the snapshot
    cosine = <G_after, G_snapshot> / (|G_after| |G_snapshot|)
    m      = sum_k p_k |D_k|                        how much the clients move
    kappa  = |sum_k p_k D_k| / m                    1: they agree; 1/sqrt(K): unrelated; 0: cancel
    index  = median of r over the middle layers / median of r over the first and the last one

The phenomenon, and the snapshot after the third round, are those of arXiv 2506.00932 (2025): with
little and unlike data the middle layers of the global model hardly move any more. ``kappa`` tells
apart what its measures cannot: clients that stopped moving, and clients that cancel each other.
Movement is not benefit: read all of this beside the accuracy.

A layer is one tensor of floating-point numbers, so a weight and its bias are two. Integer buffers
and the running statistics of batch norm are no layers: nothing trains them. The index looks at
weights alone (tensors with more than one axis), in the order of the model. Rounds are 1-based as
in Flower: round 1 moves the weights of round 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedcircuit.analysis.inertia.movement import (
    ClientMovement,
    ClientUpdate,
    Start,
    Vector,
    defined,
    norm,
    ratio,
    vector,
)
from fedcircuit.learning import Weights

__all__ = [
    "ClientUpdate",
    "LayerInertia",
    "RoundInertia",
    "RoundWeights",
    "inertia_index",
    "inertia_over_rounds",
    "layer_names",
    "round_inertia",
    "share_inert",
]

SNAPSHOT_ROUND = 3  # drift and cosine are those from the global weights after this round
LAYER_COLUMNS = ("layer", "u", "r", "drift", "cosine", "m", "kappa")  # of a table of layers
INDEX_COLUMNS = ("index", "start")  # of a table of rounds
INERT = 0.5  # an index below it: the middle layers move less than half as much as the ends
EPS = 1e-12
RUNNING = ("running_mean", "running_var", "num_batches_tracked")  # of batch norm, by last name


@dataclass(frozen=True)
class LayerInertia:
    """One layer in one round; a number that is not defined is NaN.

    Parameters
    ----------
    layer
        Name of the tensor.
    u, r
        Movement of the global weights in the round, and the same relative to their norm before.
        A tensor that was all zeros has no size to compare with: ``r`` is then ``u / eps``.
    drift, cosine
        Distance from the snapshot relative to its norm, and cosine with it (in [-1, 1]), after
        the round. NaN before there is a snapshot, and where a norm is zero.
    m, kappa
        Mean movement of the clients, weighted by their samples, and how much of it is left in
        their mean (in [0, 1]). NaN where no client's weights are visible; kappa is NaN where no
        client moved.
    is_weight
        Whether the tensor has more than one axis, so that it counts in the index.
    """

    layer: str
    u: float
    r: float
    drift: float
    cosine: float
    m: float
    kappa: float
    is_weight: bool = True


@dataclass(frozen=True)
class RoundWeights:
    """Global weights around a round, and the clients whose weights are visible.

    Clients are walked once, one after the other, so they may be read from a disk on the way.
    """

    round: int
    before: Weights
    after: Weights
    clients: Iterable[ClientUpdate] = ()


@dataclass(frozen=True)
class RoundInertia:
    """All layers in one round.

    Parameters
    ----------
    round
        1-based.
    layers
        One row a layer, in the order of the model.
    index
        See :func:`inertia_index`.
    start
        ``global`` if the clients started from the global weights. ``received`` if one of them
        started from others; movement is then not kappa times m, not even for plain averaging. None
        where no client's weights are visible.
    """

    round: int
    layers: tuple[LayerInertia, ...]
    index: float
    start: Start | None

    @property
    def layer_cells(self) -> tuple[tuple[str | float, ...], ...]:
        """A row a layer, columns as ``LAYER_COLUMNS``."""
        return tuple((x.layer, x.u, x.r, x.drift, x.cosine, x.m, x.kappa) for x in self.layers)

    @property
    def index_cells(self) -> tuple[float, str | None]:
        """The round's row, columns as ``INDEX_COLUMNS``."""
        return self.index, self.start


def layer_names(weights: Weights) -> tuple[str, ...]:
    """Names of the tensors that are layers by default: floating point, not running statistics."""
    return tuple(
        name
        for name, values in weights.items()
        if values.dtype.kind == "f" and name.rpartition(".")[2] not in RUNNING
    )


def round_inertia(
    weights: RoundWeights,
    snapshot: Weights | None = None,
    *,
    layers: Sequence[str] | None = None,
    eps: float = EPS,
) -> RoundInertia:
    """All measures of a round.

    Parameters
    ----------
    weights
        Global weights before and after, and the clients.
    snapshot
        Global weights that drift and cosine refer to; None while there are none.
    layers
        Names to look at, in the order of the model; None is :func:`layer_names`.
    eps
        Added to the norm that relative movement is divided by.

    Raises
    ------
    ValueError
        If a layer is missing somewhere or has another shape, or a number of samples is negative.
    """
    names = layer_names(weights.before) if layers is None else tuple(layers)
    with np.errstate(invalid="ignore", over="ignore"):  # of weights that are not finite: NaN
        moved = ClientMovement(names)
        for client in weights.clients:
            moved.add(client, weights.before)
        rows = tuple(_layer(name, weights, snapshot, moved, eps) for name in names)
    return RoundInertia(weights.round, rows, inertia_index(rows), moved.start)


def inertia_over_rounds(
    rounds: Iterable[RoundWeights],
    *,
    snapshot: Weights | None = None,
    snapshot_round: int = SNAPSHOT_ROUND,
    layers: Sequence[str] | None = None,
) -> Iterator[RoundInertia]:
    """The measures of one round after the other.

    Parameters
    ----------
    rounds
        In ascending order.
    snapshot
        Global weights after ``snapshot_round``, for rounds that begin later; else they are taken
        when that round comes.
    snapshot_round
        The round; in earlier ones drift and cosine are NaN, in itself they are 0 and 1.
    layers
        As in :func:`round_inertia`.
    """
    for weights in rounds:
        if weights.round == snapshot_round:
            snapshot = weights.after
        known = snapshot if weights.round >= snapshot_round else None
        yield round_inertia(weights, known, layers=layers)


def inertia_index(rows: Sequence[LayerInertia]) -> float:
    """Relative movement of the middle layers over that of the first and the last, by medians.

    Parameters
    ----------
    rows
        The layers of a round in the order of the model; those that are no weights are left out.

    Returns
    -------
    float
        Below 1 where the middle moves less. NaN with fewer than three weights, or if the first and
        the last do not move.
    """
    movements = [row.r for row in rows if row.is_weight]
    if len(movements) < 3 or any(math.isnan(r) for r in movements):
        return math.nan
    ends = float(np.median([movements[0], movements[-1]]))
    return ratio(float(np.median(movements[1:-1])), ends)


def share_inert(indices: Iterable[float], *, limit: float = INERT) -> float:
    """Share of rounds whose inertia index is below the limit, in [0, 1].

    Rounds without an index do not count; NaN if none has one.
    """
    known = [index for index in indices if not math.isnan(index)]
    return ratio(float(sum(index < limit for index in known)), float(len(known)))


def _layer(
    name: str, weights: RoundWeights, snapshot: Weights | None, moved: ClientMovement, eps: float
) -> LayerInertia:
    before = vector(weights.before, name)
    after = vector(weights.after, name, weights.before)
    u, drift, cosine = norm(after - before), math.nan, math.nan
    if snapshot is not None:
        drift, cosine = _drift_and_cosine(after, vector(snapshot, name, weights.before))
    return LayerInertia(
        name,
        u=defined(u),
        r=ratio(u, norm(before) + eps),
        drift=drift,
        cosine=cosine,
        m=moved.mean(name),
        kappa=moved.coherence(name),
        is_weight=weights.before[name].ndim > 1,
    )


def _drift_and_cosine(after: Vector, snapshot: Vector) -> tuple[float, float]:
    size = norm(snapshot)
    cosine = ratio(float(np.sum(after * snapshot)), size * norm(after))
    if not math.isnan(cosine):
        cosine = max(-1.0, min(1.0, cosine))  # the last bit may exceed it
    return ratio(norm(after - snapshot), size), cosine
