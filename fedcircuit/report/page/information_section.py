"""What the page draws of the information plane: curves by layer and round, gaps, accuracy."""

from __future__ import annotations

from math import isfinite
from typing import Any

import pandas as pd

from fedcircuit.records.rounds import GLOBAL
from fedcircuit.records.runs import Run
from fedcircuit.report.tables import (
    MODELS,
    QUANTITIES,
    accuracies,
    by_layer,
    ceiling,
    curves,
    estimator_name,
    estimators,
    evenly,
    gaps,
    is_logarithmic,
    settings_of,
    short,
    thinned,
)

MOST_LAYERS = 24  # panels; of more layers evenly spaced ones are shown
MOST_CELLS = 1_200  # layers by rounds that are embedded: about 0.15 MB; rounds are thinned out
WHOSE = ("global", "clients")  # keys of MODELS on the page


def information(run: Run) -> dict[str, Any]:
    """Curves, gaps and words of the section; empty where nothing was measured.

    ``estimates`` has an entry for each estimator of each quantity. Its ``global`` and ``clients``
    have by measure ``[layers][rounds]``, of the layers and ``rounds`` that are shown; what is
    never defined is left out. ``gap`` is likewise, the average minus the mean of the clients.
    """
    table = curves(run)
    if table is None:
        return {}
    names, all_rounds = list(dict.fromkeys(table["layer"])), sorted(table["round"].unique())
    layers = evenly(names, MOST_LAYERS)
    rounds = thinned(all_rounds, max(1, MOST_CELLS // len(layers)))
    shown = table[table["layer"].isin(layers) & table["round"].isin(rounds)]
    about = shown.drop_duplicates("layer").set_index("layer")[["d", "path"]]
    accuracy = accuracies(shown)
    top = ceiling(table)
    return {
        "layers": [[layer, int(about["d"][layer]), about["path"][layer]] for layer in layers],
        "other_layers": len(names) - len(layers),
        "rounds": rounds,
        "left_out": len(all_rounds) - len(rounds),
        "log": is_logarithmic(rounds),
        "unit": str(table["unit"].iloc[0]),
        "n": int(table["n"].max()),
        "ceiling": short(top) if isfinite(top) else None,
        "clients": looked_at(run),
        "estimates": [
            _estimate(shown, (quantity, estimator))
            for quantity in QUANTITIES
            for estimator in estimators(table, quantity)
        ],
        "accuracy": {
            key: [short(value) for value in accuracy[model]]
            for key, model in zip(WHOSE, MODELS, strict=True)
        },
    }


def looked_at(run: Run) -> int:
    """Most clients that were measured in a round."""
    table = run.table("information")
    names = table[~table["model"].astype(str).isin(MODELS)]
    return int(names.groupby("round")["model"].nunique().max()) if len(names) else 0


def _estimate(table: pd.DataFrame, estimate: tuple[str, str]) -> dict[str, Any]:
    quantity, estimator = estimate
    rows = table[(table["quantity"] == quantity) & (table["estimator"] == estimator)]
    own = rows[rows["model"] == GLOBAL]
    return {
        "axis": "x" if quantity == QUANTITIES[0] else "y",
        "quantity": quantity,
        "estimator": estimator_name(estimator),
        "setting": settings_of(table, estimate),
        "saturated_share": short(float(own["saturated"].astype(float).mean())),
        "gap": _cells(gaps(table, estimate)),
        **{
            key: _measures(table, model, estimate) for key, model in zip(WHOSE, MODELS, strict=True)
        },
    }


def _measures(
    table: pd.DataFrame, model: str, estimate: tuple[str, str]
) -> dict[str, list[list[float | None]]]:
    grids = {
        name: _cells(by_layer(table, model, estimate, name).astype(float))
        for name in ("value", "null", "unique", "saturated")
    }
    return {name: cells for name, cells in grids.items() if _is_defined(cells)}


def _cells(wide: pd.DataFrame) -> list[list[float | None]]:
    return [[short(float(value)) for value in row] for row in wide.to_numpy()]


def _is_defined(cells: list[list[float | None]]) -> bool:
    return any(cell is not None for row in cells for cell in row)
