"""The noise ceiling of a round: how far the search for circuits agrees with itself.

Circuits of two models cannot be expected to overlap more than the circuits that two searches find
in one model. Where every model was searched twice (``stability`` of the settings) the values are
read from its checks; else the global model alone can be searched a second time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from fedcircuit.circuits.discovery import discover
from fedcircuit.circuits.models import fast_copy
from fedcircuit.circuits.overlap import ALL_LAYERS, Floats, Side, paired_overlaps
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import (
    GLOBAL,
    RoundCircuits,
    RoundTask,
    corrected_overlap,
    load_weights,
    stream,
    swapped_halves,
)
from fedcircuit.learning import Weights
from fedcircuit.records.rounds import Cell, Table

Ceilings = Mapping[str, Mapping[str, Floats]]  # by model and layer, adjusted IoU ``[classes]``
CEILING_COLUMNS = ("model", "class", "layer", "adjusted")
CORRECTED_COLUMNS = ("client", "class", "layer", "adjusted", "ceiling", "corrected")


def checked_ceilings(result: RoundCircuits) -> Ceilings:
    """Ceilings of all models over all layers, as their checks hold them; empty where none does."""
    values = {
        one.model: np.array([checked.stability for checked in one.validity], dtype=np.float64)
        for one in result.models
    }
    if all(np.isnan(classes).all() for classes in values.values()):
        return {}
    return {model: {ALL_LAYERS: classes} for model, classes in values.items()}


def global_ceiling(
    model: nn.Module, weights: Weights, probe: Probe, task: RoundTask, result: RoundCircuits
) -> Ceilings:
    """The global model's circuits against those of a second search, in every layer.

    The second search has another seed and the other half of the probe.

    Parameters
    ----------
    model, weights
        The architecture, which is copied, and the global weights.
    probe, task
        As in `fedcircuit.circuits.round.analyse_round`.
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
    table = paired_overlaps(
        Side(own.masks, own.found, own.live), Side(again.masks, again.found, own.live), own.sites
    )
    return {GLOBAL: {layer: table.adjusted[:, j] for j, layer in enumerate(table.layers)}}


def ceiling_table(ceilings: Ceilings) -> Table:
    """Adjusted IoU of a model's circuits with those of a second search; NaN where undefined."""
    rows = tuple(
        (model, c, layer, float(value))
        for model, layers in ceilings.items()
        for layer, classes in layers.items()
        for c, value in enumerate(classes)
    )
    return Table(CEILING_COLUMNS, rows)


def corrected_table(result: RoundCircuits, ceilings: Ceilings) -> Table:
    """Adjusted IoU of clients with the global model relative to the noise ceiling.

    `fedcircuit.circuits.round.corrected_overlap`, with the ceiling of the global model in
    place of a client's where clients were not searched a second time. ``ceiling`` is what the
    overlap was divided by, the geometric mean of both. One row for each client, class and layer in
    which both circuits were found and the global model has a ceiling; NaN where one of the two is
    not positive.
    """
    average = ceilings[GLOBAL]
    rows: list[tuple[Cell, ...]] = []
    for client, pair in result.comparisons.items():
        own = ceilings.get(client, average)
        for c, found in enumerate(pair.overlaps):
            for layer in (layer for layer in found or {} if layer in average):
                assert found is not None
                adjusted = found[layer].adjusted
                limits = own[layer][c], average[layer][c]
                # what remains of an overlap of 1 is one over the ceiling
                ceiling = 1 / corrected_overlap(np.ones(()), *limits)
                corrected = corrected_overlap(np.array(adjusted), *limits)
                rows.append((client, c, layer, adjusted, float(ceiling), float(corrected)))
    return Table(CORRECTED_COLUMNS, tuple(rows))
