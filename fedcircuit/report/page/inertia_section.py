"""What the page draws of layer inertia: cells by layer and round, and the index over rounds."""

from __future__ import annotations

from math import isfinite, nan
from typing import Any

import pandas as pd

from fedcircuit.analysis.inertia import INERT, share_inert
from fedcircuit.records.runs import Run
from fedcircuit.report.tables import TOP_MOVEMENT, inertia_tables, short, thinned, weight_layers

MOST_CELLS = 6_000  # layers by rounds that are embedded: about 0.25 MB; rounds are thinned out
MEASURES = ("r", "drift", "cosine", "kappa", "m")


def inertia(run: Run) -> dict[str, Any]:
    """Cells, index and words of the section; empty where there is nothing to draw.

    ``cells`` has by measure ``[layers][rounds]``, over the ``rounds`` that are shown: all of them,
    or as many evenly spaced ones as there is room for, the newest among them. A measure that is
    never defined is left out. ``index`` has every round.
    """
    found = inertia_tables(run)
    weights = [] if found is None else weight_layers(run, found)
    if found is None or not weights:
        return {}
    table, index = found.layers, found.index
    paths = dict(zip(table["layer"].astype(str), table["path"].astype(str), strict=True))
    layers = list(paths)
    rounds = thinned(sorted(table["round"].unique()), max(1, MOST_CELLS // len(layers)))
    cells = {name: _cells(table, name, layers, rounds) for name in MEASURES}
    values = [float(value) for value in index["index"]]
    defined = sum(map(isfinite, values))
    return {
        "layers": [[name, name in weights, paths[name]] for name in layers],
        "rounds": rounds,
        "left_out": int(table["round"].nunique()) - len(rounds),
        "cells": {name: grid for name, grid in cells.items() if _is_defined(grid)},
        "index": [
            [int(number), short(value)]
            for number, value in zip(index["round"], values, strict=True)
        ],
        "below": round(share_inert(values) * defined) if defined else 0,
        "defined": defined,
        "limit": INERT,
        "top": TOP_MOVEMENT,
        "received": [int(n) for n in index.loc[index["start"] == "received", "round"]],
        "snapshot": snapshot_round(table),
        "clients": int(run.clients.groupby("round").size().max()) if len(run.clients) else 0,
    }


def snapshot_round(table: pd.DataFrame) -> int | None:
    """The round that drift is measured from: where it is first known, and zero; else None."""
    known = table[table["drift"].notna()]
    first = known[known["round"] == known["round"].min()]
    return int(first["round"].iloc[0]) if len(first) and not first["drift"].any() else None


def _cells(
    table: pd.DataFrame, measure: str, layers: list[str], rounds: list[int]
) -> list[list[float | None]]:
    known = {
        (str(layer), int(number)): float(value)
        for layer, number, value in table[["layer", "round", measure]].itertuples(index=False)
    }
    return [[short(known.get((layer, number), nan)) for number in rounds] for layer in layers]


def _is_defined(grid: list[list[float | None]]) -> bool:
    return any(cell is not None for row in grid for cell in row)
