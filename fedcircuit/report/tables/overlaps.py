"""Overlaps of valid client circuits with the global model's, and means by round and layer.

What a run did not record (an older one has no q-values, no overlap of scores, no other classes)
is NaN here with a count of 0, so that the page and the figures can say so.
"""

from __future__ import annotations

from math import nan
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from fedcircuit.records.runs import Run
from fedcircuit.report.tables import counts as tables
from fedcircuit.report.tables.counts import ALL_LAYERS, KEYS

SIGNIFICANT = 0.05  # p-value below which an overlap counts as more than chance
DISCOVERY_RATE = 0.05  # false discoveries allowed among the overlaps called more than chance
_MEASURES = ("q_value", "weighted", "weighted_chance")
_SWAP = ("swapped", "swapped_max", "n_swapped")
MEAN_COLUMNS = (
    "iou", "chance", "adjusted", "significant", "n", "n_undefined",
    "discovered", "n_tested", "n_family",
    "weighted", "weighted_chance", "n_weighted",
    "own", "swapped", "swapped_max", "n_swapped", "closest", "closest_chance",
    "ceiling", "corrected", "n_corrected",
)  # fmt: skip

# joined once for every loaded run; a report asks for it several times
_PAIRS: WeakKeyDictionary[Run, pd.DataFrame] = WeakKeyDictionary()
_MEANS: WeakKeyDictionary[Run, pd.DataFrame] = WeakKeyDictionary()


def recorded(run: Run) -> dict[str, bool]:
    """Which of the newer measures the run has in any round."""
    columns = list(tables.frame(run, "overlap")) if tables.has(run, "overlap") else []
    return {
        "q_value": "q_value" in columns,
        "weighted": "weighted" in columns,
        "others": tables.has(run, "class_swap"),
        "ceiling": tables.has(run, "ceiling"),
    }


def pairs(run: Run) -> pd.DataFrame:
    """One row a round, client, class and layer: a valid client circuit against the global model's.

    The table ``overlap`` with the columns ``swapped``, ``swapped_max`` and ``n_swapped`` of the
    table ``class_swap`` and ``corrected`` of the table of that name; columns that were not
    recorded are NaN. Empty where the run has no overlaps. Not to be changed in place.
    """
    if run not in _PAIRS:
        _PAIRS[run] = _pairs(run)
    return _PAIRS[run]


def _pairs(run: Run) -> pd.DataFrame:
    if not tables.has(run, "overlap"):
        return tables.empty([*KEYS, "layer", "path", "iou", "chance", "adjusted", "p_value"])
    rows = tables.frame(run, "overlap")
    if tables.has(run, "validity"):
        status = tables.client_validity(run)
        rows = rows.merge(status.loc[status["status"] == "valid", KEYS], on=KEYS)
    for name, columns in (("class_swap", _SWAP), ("corrected", ("corrected",))):
        if tables.has(run, name):
            other = tables.frame(run, name)[[*KEYS, "layer", *columns]]
            rows = rows.merge(other, on=[*KEYS, "layer"], how="left")
    absent = [name for name in (*_MEASURES, *_SWAP, "corrected") if name not in rows]
    return rows.assign(**dict.fromkeys(absent, nan))


def mean_overlap(run: Run) -> pd.DataFrame:
    """Means over valid client circuits, by round and layer (RQ4); NaN and 0 where there is none.

    Columns round, layer, path (of its module), and

    - iou, chance, adjusted, significant (share with p < .05), n (pairs with an IoU), n_undefined
      (valid client circuits without one: the global model has no circuit, or both are empty);
    - discovered (pairs above chance at a false-discovery rate of 5 %), n_tested (pairs with a
      q-value), n_family (all pairs of the round that the rate is controlled over);
    - weighted, weighted_chance, n_weighted (pairs in both: those with scores on both sides);
    - own, swapped, swapped_max (adjusted IoU with the global circuits of the same class, of the
      other classes and of the closest of these), n_swapped (pairs in all three), closest (pairs in
      which the own class is above all others), closest_chance (how many that would be by luck);
    - ceiling (mean adjusted IoU of two searches on the global model), corrected (median of the
      overlaps relative to it), n_corrected.

    Not to be changed in place.
    """
    if run not in _MEANS:
        _MEANS[run] = _mean_overlap(run)
    return _MEANS[run]


def _mean_overlap(run: Run) -> pd.DataFrame:
    columns = ["round", "layer", "path", *MEAN_COLUMNS]
    if not tables.has(run, "overlap"):
        return tables.empty(columns)
    seen = tables.frame(run, "overlap")
    valid = pairs(run)
    groups = dict(list(valid.groupby(["round", "layer"])))
    families = _families(seen)
    ceilings = _ceilings(run)
    counts = _valid_counts(run)
    rows = []
    places = seen[["round", "layer", "path"]].drop_duplicates()
    for number, layer, path in places.itertuples(index=False):
        here = groups.get((number, layer), valid.iloc[:0])
        n_valid = len(here) if counts is None else counts.get(number, 0)
        means = {
            **_iou(here, n_valid),
            **_discovered(here),
            **_weighted(here),
            **_swapped(here),
            "corrected": _median(here["corrected"]),
            "n_corrected": int(here["corrected"].notna().sum()),
            "n_family": families.get((number, layer), 0),
            "ceiling": ceilings.get((number, layer), nan),
        }
        rows.append([number, layer, path, *(means[name] for name in MEAN_COLUMNS)])
    return pd.DataFrame(rows, columns=pd.Index(columns))


def by_class(run: Run, number: int, layer: str = ALL_LAYERS) -> pd.DataFrame:
    """Adjusted IoU of every class with itself and with the others, mean over its clients.

    Columns round, class, class_name, own, swapped, swapped_max, n (valid client circuits with all
    three). A class without such a circuit has NaN and n = 0. Empty where other classes were not
    recorded in this round.
    """
    columns = ["round", "class", "class_name", "own", "swapped", "swapped_max", "n"]
    rows = pairs(run)
    if rows.empty:
        return tables.empty(columns)
    rows = rows[(rows["round"] == number) & (rows["layer"] == layer)]
    rows = rows[rows["adjusted"].notna() & rows["swapped"].notna()]
    if rows.empty:
        return tables.empty(columns)
    named = {"own": "adjusted", "swapped": "swapped", "swapped_max": "swapped_max"}
    groups = rows.groupby("class")
    means = pd.DataFrame({name: groups[column].mean() for name, column in named.items()})
    means = means.reindex(range(len(run.class_names)))
    means["n"] = groups.size().reindex(means.index).fillna(0).astype(int)
    means = means.rename_axis(index="class").reset_index()
    return means.assign(round=number, class_name=list(run.class_names))[columns]


def _iou(rows: pd.DataFrame, n_valid: int) -> dict[str, float]:
    defined = rows[rows["iou"].notna()]
    n = len(defined)
    return {
        **{name: _mean(defined[name]) for name in ("iou", "chance", "adjusted")},
        "significant": float((defined["p_value"] < SIGNIFICANT).mean()) if n else nan,
        "n": n,
        "n_undefined": n_valid - n,
    }


def _discovered(rows: pd.DataFrame) -> dict[str, float]:
    tested = rows["q_value"].dropna()
    return {"discovered": int((tested <= DISCOVERY_RATE).sum()), "n_tested": len(tested)}


def _weighted(rows: pd.DataFrame) -> dict[str, float]:
    defined = rows[rows["weighted"].notna() & rows["weighted_chance"].notna()]
    means = {name: _mean(defined[name]) for name in ("weighted", "weighted_chance")}
    return {**means, "n_weighted": len(defined)}


def _swapped(rows: pd.DataFrame) -> dict[str, float]:
    """Own class against other classes, over the pairs that have both."""
    both = rows[rows["adjusted"].notna() & rows["swapped"].notna()]
    return {
        "own": _mean(both["adjusted"]),
        "swapped": _mean(both["swapped"]),
        "swapped_max": _mean(both["swapped_max"]),
        "n_swapped": len(both),
        "closest": int((both["adjusted"] > both["swapped_max"]).sum()),
        # if the class did not matter, each of the n + 1 circuits would be as likely to be closest
        "closest_chance": float((1 / (both["n_swapped"] + 1)).sum()),
    }


def _families(seen: pd.DataFrame) -> dict[tuple[int, str], int]:
    if "q_value" not in seen:
        return {}
    counts = seen.groupby(["round", "layer"])["q_value"].count().reset_index()
    rows = counts.itertuples(index=False, name=None)
    return {(number, layer): int(count) for number, layer, count in rows}


def _ceilings(run: Run) -> dict[tuple[int, str], float]:
    if not tables.has(run, "ceiling"):
        return {}
    table = tables.frame(run, "ceiling")
    own = table[table["model"].astype(str) == tables.GLOBAL]
    means = own.groupby(["round", "layer"])["adjusted"].mean()
    rows = means.reset_index().itertuples(index=False, name=None)
    return {(number, layer): float(mean) for number, layer, mean in rows}


def _valid_counts(run: Run) -> dict[int, int] | None:
    """Valid client circuits by round; None where no checks were recorded."""
    if not tables.has(run, "validity"):
        return None
    rows = tables.client_validity(run)
    counts = rows[rows["status"] == "valid"].groupby("round").size()
    return {int(str(number)): int(count) for number, count in counts.items()}


def _mean(values: pd.Series[float]) -> float:
    return float(values.mean()) if len(values) else nan


def _median(values: pd.Series[float]) -> float:
    known = values.dropna()
    return float(np.median(known)) if len(known) else nan
