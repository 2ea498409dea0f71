"""What a report shows of the information plane: the average, the mean of clients, their gap."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, nan

import pandas as pd

from fedcircuit.analysis.estimators import INPUTS, LABELS
from fedcircuit.analysis.information import MEAN, common_setting
from fedcircuit.records.rounds import GLOBAL
from fedcircuit.records.runs import Run
from fedcircuit.report.tables import counts as tables

TABLE = "information"
QUANTITIES = (INPUTS, LABELS)
MODELS = (GLOBAL, MEAN)
STEEP = 3  # times as far apart as the first two rounds are the last two: a logarithmic axis
_NAMES = {
    "kolchinsky-tracey-upper": "upper bound of Kolchinsky and Tracey",
    "kolchinsky-tracey-lower": "lower bound of Kolchinsky and Tracey",
    "binned-width": "bins of equal width",
    "binned-count": "bins of equal count",
    "binned-range": "bins over a fixed range",
    "ksg": "nearest neighbours (KSG)",
    "probe": "held-out linear probe",
    "infonce": "InfoNCE",
    "mine": "MINE",
    "smile": "SMILE",
}


def estimator_name(estimator: str) -> str:
    """An estimator in words; its own name where there are none."""
    return _NAMES.get(estimator, estimator)


def curves(run: Run) -> pd.DataFrame | None:
    """Rows of the average and of the mean of clients; None where nothing was measured."""
    if not tables.has(run, TABLE):
        return None
    table = tables.frame(run, TABLE)
    rows = table[table["model"].astype(str).isin(MODELS)]
    return rows.assign(layer=rows["layer"].astype(str), model=rows["model"].astype(str))


def estimators(table: pd.DataFrame, quantity: str) -> list[str]:
    """Estimators of a quantity, the one that gaps are made of first: of two bounds the upper."""
    return list(dict.fromkeys(table.loc[table["quantity"] == quantity, "estimator"]))[::-1]


def by_layer(
    table: pd.DataFrame, model: str, estimate: tuple[str, str], column: str = "value"
) -> pd.DataFrame:
    """A column of one model's estimates, layers in order as rows and rounds as columns.

    Parameters
    ----------
    table
        As :func:`curves` gives it.
    model
        One of ``MODELS``; without rows all is NaN.
    estimate
        Quantity and estimator.
    column
        Of the table.
    """
    layers = list(dict.fromkeys(table["layer"]))
    rounds = sorted(table["round"].unique())
    quantity, estimator = estimate
    chosen = table[
        (table["model"] == model)
        & (table["quantity"] == quantity)
        & (table["estimator"] == estimator)
    ]
    wide = chosen.pivot(index="layer", columns="round", values=column)
    return wide.reindex(index=layers, columns=rounds)


def settings_of(table: pd.DataFrame, estimate: tuple[str, str]) -> str:
    """The settings of the average's estimates in words."""
    quantity, estimator = estimate
    rows = table[(table["quantity"] == quantity) & (table["estimator"] == estimator)]
    return common_setting(rows.loc[rows["model"] == GLOBAL, "setting"].astype(str))


def gaps(table: pd.DataFrame, estimate: tuple[str, str]) -> pd.DataFrame:
    """The average minus the mean of clients, layers as rows and rounds as columns."""
    average, clients = (by_layer(table, model, estimate) for model in MODELS)
    return average.astype(float) - clients.astype(float)


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on the pool, rounds as rows, ``MODELS`` as columns; NaN where there is none."""
    known = table.drop_duplicates(["round", "model"])
    wide = known.pivot(index="round", columns="model", values="accuracy")
    return wide.reindex(columns=list(MODELS)).astype(float)


def ceiling(table: pd.DataFrame) -> float:
    """Logarithm of the number of samples, in the unit of the table: no estimate says more."""
    unit, n = str(table["unit"].iloc[0]), table["n"].max()
    return log(n) / (log(2) if unit == "bits" else 1) if n > 0 else nan


def is_logarithmic(rounds: Sequence[int]) -> bool:
    """Whether rounds thin out so much that only a logarithmic axis shows them."""
    if len(rounds) < 4:
        return False
    return bool(rounds[-1] - rounds[-2] >= STEEP * (rounds[1] - rounds[0]))


def evenly(layers: Sequence[str], most: int) -> list[str]:
    """At most this many of the layers, evenly spaced, the first and the last among them."""
    if len(layers) <= most:
        return list(layers)
    step = (len(layers) - 1) / (most - 1)
    return [layers[round(index * step)] for index in range(most)]
