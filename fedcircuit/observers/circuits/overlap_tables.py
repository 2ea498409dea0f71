"""What clients' circuits share with the global model's, as tables: pairs, and classes swapped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedcircuit.circuits.overlap import (
    ALL_LAYERS,
    Floats,
    ModelMasks,
    Overlap,
    ScoredSide,
    class_swap,
    false_discovery,
    weighted_overlaps,
)
from fedcircuit.circuits.round import ModelCircuits, RoundCircuits
from fedcircuit.records.rounds import Cell, Table

Row = tuple[Cell, ...]
OVERLAP_COLUMNS = (
    "layer", "iou", "chance", "adjusted", "p_value", "size_local", "size_global", "intersection",
    "pool",
)  # fmt: skip
SCORE_COLUMNS = ("weighted", "weighted_chance")
SWAP_COLUMNS = ("client", "class", "layer", "swapped", "swapped_max", "n_swapped")


def overlap_row(layer: str, overlap: Overlap) -> Row:
    """Cells of `OVERLAP_COLUMNS`."""
    return (
        layer, overlap.iou, overlap.chance, overlap.adjusted, overlap.p_value, overlap.size_a,
        overlap.size_b, overlap.intersection, overlap.pool,
    )  # fmt: skip


def overlap_table(result: RoundCircuits) -> Table:
    """Every client's circuits against the global model's of the same class.

    One row for each client, class and layer where both circuits were found. Beside the columns of
    `overlap_row`: ``q_value``, the p-value adjusted for all such pairs of the round in the same
    layer (`fedcircuit.circuits.overlap.false_discoveries`); weighted IoU of the discovery scores
    with its chance level, NaN where a side has no scores.
    """
    columns = ("client", "class", *OVERLAP_COLUMNS, "q_value", *SCORE_COLUMNS)
    if not result.comparisons:
        return Table(columns)
    layers = (*(site.name for site in result.sites), ALL_LAYERS)
    q_values = _q_values([pair.overlaps for pair in result.comparisons.values()], layers)
    measures = (q_values, *_score_overlaps(result))
    rows = tuple(
        (client, c, *overlap_row(layer, overlap), *(float(field[i, c, j]) for field in measures))
        for i, (client, pair) in enumerate(result.comparisons.items())
        for c, found in enumerate(pair.overlaps)
        for j, (layer, overlap) in enumerate((found or {}).items())
    )
    return Table(columns, rows)


def class_swap_table(result: RoundCircuits) -> Table:
    """Every client's circuits against those of the other classes in the global model.

    Chance-adjusted IoU of class c with the other classes: ``swapped`` the mean, ``swapped_max``
    the largest, of ``n_swapped`` that are defined. With class c itself it is ``adjusted`` of
    `overlap_table`. One row for each client, class and layer in which any of these is defined.
    """
    clients = _clients(result)
    if not clients:
        return Table(SWAP_COLUMNS)
    swap = class_swap(_masks(clients), _masks(result.models[:1]), result.sites)
    fields = (swap.swapped[:, 0], swap.swapped_max[:, 0])  # one global model
    n_swapped = swap.n_swapped[:, 0]
    defined = ~np.isnan(swap.same[:, 0]) | (n_swapped > 0)
    rows = tuple(
        (
            clients[i].model,
            int(c),
            swap.layers[column],
            *(float(field[i, c, column]) for field in fields),
            int(n_swapped[i, c, column]),
        )
        for i, c, column in np.argwhere(defined)
    )
    return Table(SWAP_COLUMNS, rows)


def _clients(result: RoundCircuits) -> tuple[ModelCircuits, ...]:
    return result.models[1:]  # in the order of the comparisons, the global model before them


def _masks(models: Sequence[ModelCircuits]) -> ModelMasks:
    return ModelMasks(
        torch.stack([one.masks for one in models]),
        torch.stack([one.found for one in models]),
        torch.stack([one.live for one in models]),
    )


def _q_values(
    overlaps: Sequence[Sequence[dict[str, Overlap] | None]], layers: Sequence[str]
) -> Floats:
    """``[clients, classes, layers]``; each layer is a family of tests of its own."""
    p_values = np.full((len(overlaps), len(overlaps[0]), len(layers)), np.nan)
    for i, classes in enumerate(overlaps):
        for c, found in enumerate(classes):
            if found is not None:
                p_values[i, c] = [found[layer].p_value for layer in layers]
    families = [false_discovery(p_values[..., j]).p_values for j in range(len(layers))]
    return np.stack(families, axis=-1)


def _score_overlaps(result: RoundCircuits) -> tuple[Floats, ...]:
    """`SCORE_COLUMNS`, ``[clients, classes, layers + 1]`` each."""
    clients = _clients(result)
    n_classes = len(result.models[0].masks)
    local, average = _scored(clients), _scored([result.models[0]] * len(clients))
    weighted = weighted_overlaps(local, average, result.sites)
    fields = (weighted.iou, weighted.chance)
    return tuple(field.reshape(len(clients), n_classes, -1) for field in fields)


def _scored(models: Sequence[ModelCircuits]) -> ScoredSide:
    """``[models * classes, units]``; NaN where circuits came without scores."""
    scores = [
        torch.full(one.masks.shape, torch.nan) if one.scores is None else one.scores
        for one in models
    ]
    live = [one.live.expand(one.masks.shape) for one in models]
    return ScoredSide(torch.cat(scores), torch.cat(live))
