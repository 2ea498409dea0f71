"""The noise ceiling of a round: how far the search agrees with itself on the global model.

Circuits of two models cannot be expected to overlap more than the circuits that two searches find
in one model.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from fedcircuit.circuits.discover import discover
from fedcircuit.circuits.masking import fast_copy
from fedcircuit.circuits.model_circuits import stream
from fedcircuit.circuits.overlap import OverlapTable, Side, paired_overlaps
from fedcircuit.circuits.preservation import GLOBAL, RoundCircuits, RoundTask, load_weights
from fedcircuit.circuits.probe import Probe
from fedcircuit.circuits.stability import corrected_overlap, swapped_halves
from fedcircuit.learning.weights import Weights
from fedcircuit.records.round_record import Cell, Table

CEILING_COLUMNS = ("model", "class", "layer", "iou", "chance", "adjusted")
CORRECTED_COLUMNS = ("client", "class", "layer", "adjusted", "ceiling", "corrected")


def global_ceiling(
    model: nn.Module, weights: Weights, probe: Probe, task: RoundTask, result: RoundCircuits
) -> OverlapTable:
    """The global model's circuits against those of a second search, ``[classes, layers + 1]``.

    The second search has another seed and the other half of the probe.

    Parameters
    ----------
    model, weights
        The architecture, which is copied, and the global weights.
    probe, task
        As in `fedcircuit.circuits.preservation.analyse_round`.
    result
        What that gave: the first search.
    """
    averaged = fast_copy(model, probe.checking.inputs[:2])
    load_weights(averaged, weights)
    again = discover(
        averaged,
        swapped_halves(probe),
        method=task.settings.discovery(),
        ablation=task.settings.ablation,
        seed=stream(task.seed, task.round, GLOBAL, "ceiling").initial_seed(),
    )
    own = result.models[0]
    return paired_overlaps(
        Side(own.masks, own.found, own.live), Side(again.masks, again.found, own.live), own.sites
    )


def ceiling_table(ceiling: OverlapTable) -> Table:
    """Overlap of the global model's circuits with their own from a second search.

    One row for each class and layer; NaN where one of the searches found no circuit.
    """
    measures = (ceiling.iou, ceiling.chance, ceiling.adjusted)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (GLOBAL, c, layer, *(float(field[c, j]) for field in measures))
        for c in range(len(ceiling.iou))
        for j, layer in enumerate(ceiling.layers)
    )
    return Table(CEILING_COLUMNS, rows)


def corrected_table(result: RoundCircuits, ceiling: OverlapTable) -> Table:
    """Adjusted IoU of clients with the global model relative to the noise ceiling.

    `fedcircuit.circuits.stability.corrected_overlap`, with the ceiling of the global model for
    both sides: clients' models are not searched a second time. One row for each client, class and
    layer in which both circuits were found; NaN where the ceiling is not positive.
    """
    rows: list[tuple[Cell, ...]] = []
    for client, pair in result.comparisons.items():
        for c, found in enumerate(pair.overlaps):
            for j, (layer, overlap) in enumerate((found or {}).items()):
                limit = ceiling.adjusted[c, j]
                corrected = corrected_overlap(np.array(overlap.adjusted), limit, limit)
                rows.append((client, c, layer, overlap.adjusted, float(limit), float(corrected)))
    return Table(CORRECTED_COLUMNS, tuple(rows))
