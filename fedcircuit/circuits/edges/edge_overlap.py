"""How much two edge circuits share, beside how much the existing edges of their models share.

Edge IoU and node IoU are not comparable. Where a circuit keeps a units in each of two layers and
shares o1 and o2 of them with another circuit, the edges between kept units give
``J_edge = o1 o2 / (2 a^2 - o1 o2)``: a node IoU of 0.6 corresponds to an edge IoU of 0.39
(`induced_edge_iou`). Compare edge circuits with edge circuits, and with their chance level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedcircuit.circuits.edges.edge_circuit import (
    EdgeCircuit,
    EdgeLayer,
    as_sites,
    require_same_layers,
)
from fedcircuit.circuits.edges.edge_discovery import EdgeDiscovery
from fedcircuit.circuits.overlap import (
    ALL_LAYERS,
    Overlap,
    OverlapTable,
    Side,
    layer_overlaps,
    paired_overlaps,
)


@dataclass(frozen=True)
class EdgeOverlap:
    """Overlap of the edge circuits of two models, class by class.

    Parameters
    ----------
    circuits
        Arrays ``[classes, layers + 1]``; the last column is over all layers. The pool is the edges
        that exist in either model, so the chance level knows that other edges cannot be picked.
    existing
        Arrays ``[1, layers + 1]``: overlap of the existing edges themselves, in a pool of all
        edges. Where it is low the weight masks have drifted apart, and circuits with them: do not
        report that as drift of circuits. Its adjusted IoU is NaN for dense models.
    """

    circuits: OverlapTable
    existing: OverlapTable


def edge_overlaps(a: EdgeDiscovery, b: EdgeDiscovery) -> EdgeOverlap:
    """Overlap of the circuits of class c in two models, with its exact chance level.

    See the module: edge IoU is not comparable with node IoU.

    Parameters
    ----------
    a, b
        Edge circuits of two models of one architecture, or of one model on two probes.

    Raises
    ------
    ValueError
        If the edge layers or the numbers of classes differ.
    """
    if a.layers != b.layers or len(a.masks) != len(b.masks):
        raise ValueError(
            "edge circuits can be compared within one architecture and one set of classes, got "
            f"{_described(a.layers)} with {len(a.masks)} classes and "
            f"{_described(b.layers)} with {len(b.masks)}"
        )
    sites = as_sites(a.layers)
    return EdgeOverlap(
        paired_overlaps(
            Side(a.masks, a.found, a.existing), Side(b.masks, b.found, b.existing), sites
        ),
        paired_overlaps(Side(a.existing[None]), Side(b.existing[None]), sites),
    )


def edge_iou(a: EdgeCircuit, b: EdgeCircuit, existing: EdgeCircuit | None = None) -> Overlap:
    """Overlap of two edge circuits over all layers, with its exact chance level.

    See the module: edge IoU is not comparable with node IoU.

    Parameters
    ----------
    a, b
        Circuits over the same layers.
    existing
        The edges to pick from: those that exist in either model; None takes all.

    Raises
    ------
    ValueError
        If the layers or their numbers of units differ.
    """
    for other in (b, *([] if existing is None else [existing])):
        require_same_layers(a, other)
    return layer_overlaps(a, b, existing)[ALL_LAYERS]


def induced_edge_iou(overlap_in: float, overlap_out: float, size: float) -> float:
    """``o1 o2 / (2 a^2 - o1 o2)``: IoU of all edges between the kept units of two circuits.

    Parameters
    ----------
    overlap_in, overlap_out
        Units that both circuits keep in the layer that is read, and in the one that reads.
    size
        Units each circuit keeps in each of the layers.

    Returns
    -------
    float
        In [0, 1]; NaN for empty circuits.

    Raises
    ------
    ValueError
        If an overlap is negative or larger than the size.

    Examples
    --------
    Node IoU 0.6 at equal sizes is an overlap of 3/4:

    >>> round(induced_edge_iou(75, 75, 100), 2)
    0.39
    """
    for value in (overlap_in, overlap_out):
        if not 0 <= value <= size:
            raise ValueError(f"an overlap must lie in [0, size = {size}], got {value}")
    both = overlap_in * overlap_out
    return both / (2 * size**2 - both) if size > 0 else math.nan


def _described(layers: tuple[EdgeLayer, ...]) -> str:
    return ", ".join(f"{layer.name} [{layer.out_units}, {layer.in_units}]" for layer in layers)
