"""Overlaps made up for the report: IoU and chance by counting, the rest by simple formulas.

IoU and its chance level come from counting units and from the hypergeometric distribution. Overlaps
of scores, with other classes and with a second search follow `score_measures`, `swap_measures` and
`ceiling_of`.
"""

from __future__ import annotations

from math import nan

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from fedcircuit.records.rounds.round_record import Table

SITES = (("conv1", 8), ("conv2", 16), ("fc", 12))
UNITS = sum(n for _, n in SITES)


def overlap_tables(masks: NDArray[np.bool_], *, newer: bool, ceiling: bool) -> dict[str, Table]:
    """The table ``overlap`` and those that go with it, or as it was recorded before there were any.

    Parameters
    ----------
    masks
        ``[models, classes, units]``, the global model first.
    newer
        Whether q-values, overlaps of scores and other classes are recorded.
    ceiling
        Whether a second search on the global model is.
    """
    n_classes = masks.shape[1]
    pairs = [(i, c) for i in range(len(masks) - 1) for c in range(n_classes)]
    counted = {
        (i, c, layer): overlap_by_counting(masks[i + 1, c, part], masks[0, c, part])
        for i, c in pairs
        for layer, part in layers().items()
    }
    keys = {key: (str(key[0]), *key[1:]) for key in counted}
    columns = ("client", "class", "layer", "iou", "chance", "adjusted", "p_value")
    if not newer:
        rows = tuple((*keys[key], *values) for key, values in counted.items())
        return {"overlap": Table(columns, rows)}
    q_values = {
        key: q
        for layer in layers()
        for key, q in q_values_by_hand(
            {k: v[3] for k, v in counted.items() if k[2] == layer}
        ).items()
    }
    rows = tuple(
        (*keys[key], *values, q_values[key], *score_measures(key, values))
        for key, values in counted.items()
    )
    swaps = tuple(
        (*keys[key], *swap_measures(n_classes, key, values[2])) for key, values in counted.items()
    )
    tables = {
        "overlap": Table((*columns, "q_value", "weighted", "weighted_chance"), rows),
        "class_swap": Table(
            ("client", "class", "layer", "swapped", "swapped_max", "n_swapped"), swaps
        ),
    }
    if ceiling:
        again = [
            ("global", c, layer, ceiling_of(c)) for c in range(n_classes) for layer in layers()
        ]
        again.append(("0", 0, "all", 0.1))  # a client's, which is no part of the mean
        relative = tuple(
            (*keys[key], values[2], ceiling_of(key[1]), values[2] / ceiling_of(key[1]))
            for key, values in counted.items()
        )
        tables["ceiling"] = Table(("model", "class", "layer", "adjusted"), tuple(again))
        tables["corrected"] = Table(
            ("client", "class", "layer", "adjusted", "ceiling", "corrected"), relative
        )
    return tables


def q_values_by_hand(
    p_values: dict[tuple[int, int, str], float],
) -> dict[tuple[int, int, str], float]:
    """Benjamini and Hochberg: the least p m / rank among tests of at least this rank."""
    ranked = sorted(p_values, key=lambda key: p_values[key])
    steps = [p_values[key] * len(ranked) / rank for rank, key in enumerate(ranked, start=1)]
    return {key: min(1.0, *steps[place:]) for place, key in enumerate(ranked)}


def score_measures(key: tuple[int, int, str], values: tuple[float, ...]) -> tuple[float, float]:
    """Weighted IoU and its chance level; the circuits of client 1's class 0 came without scores."""
    return (nan, nan) if key[:2] == (1, 0) else (0.9 * values[0], 0.5 * values[1])


def swap_measures(
    n_classes: int, key: tuple[int, int, str], adjusted: float
) -> tuple[float, float, int]:
    """Overlap with the other classes: half of the own and less, the closest of them half and more.

    The own class is the closest where the adjusted IoU exceeds 0.2 c for class c up to 4.
    """
    client, index, _ = key
    if n_classes == 1:
        return nan, nan, 0
    return adjusted / 2 - client / 50, adjusted / 2 + min(index, 4) / 10, n_classes - 1


def ceiling_of(index: int) -> float:
    """Adjusted IoU of two searches for a class in the global model."""
    return 0.8 + min(index, 10) / 100


def layers() -> dict[str, slice]:
    """Units of every layer and of all, as in the table ``overlap``."""
    starts = np.cumsum([0, *(n for _, n in SITES)]).tolist()
    parts = {s: slice(a, a + n) for (s, n), a in zip(SITES, starts, strict=False)}
    return {**parts, "all": slice(0, UNITS)}


def overlap_by_counting(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> tuple[float, ...]:
    """IoU, expectation by chance, adjusted IoU, p-value; all units are live.

    Over all units, circuits by chance are those of the same size in every layer.
    """
    parts = list(layers().values())[:-1] if len(a) == UNITS else [slice(0, len(a))]
    law = np.ones(1)
    for part in parts:
        n, i, j = len(a[part]), int(a[part].sum()), int(b[part].sum())
        law = np.convolve(law, hypergeom(n, i, j).pmf(np.arange(n + 1)))
    shared, size = int((a & b).sum()), int(a.sum() + b.sum())
    chance = float(sum(p * k / (size - k) for k, p in enumerate(law) if p > 0))
    iou = shared / (size - shared)
    adjusted = (iou - chance) / (1 - chance) if chance < 1 else nan
    # rounded, so that a p-value of 1/20 does not come out below 0.05
    return iou, chance, adjusted, round(float(law[shared:].sum()), 12)
