"""Figures of a run as small tables: what the page, the plots and the comparison have in common."""

from __future__ import annotations

import pandas as pd

from fedcircuit.records.run import Run
from fedcircuit.report.words import STATUSES, VERDICTS

GLOBAL = "global"
ALL_CLASSES = -1  # class index of figures over all classes
ALL_LAYERS = "all"


def has(run: Run, *names: str) -> bool:
    """Whether the run has all of these tables."""
    return all(name in run.table_names for name in names)


def accuracy(run: Run) -> pd.DataFrame:
    """Global accuracy by round: columns round, accuracy. Empty where none was measured."""
    if not has(run, "accuracy"):
        return pd.DataFrame({"round": pd.Series(dtype=int), "accuracy": pd.Series(dtype=float)})
    table = run.table("accuracy")
    chosen = table[(table["class"] == ALL_CLASSES) & (table["model"].astype(str) == GLOBAL)]
    return chosen[["round", "recall"]].rename(columns={"recall": "accuracy"})


def class_recall(run: Run) -> pd.DataFrame:
    """Recall of the global model by round and class on the test samples, else on the probe."""
    if has(run, "accuracy"):
        table = run.table("accuracy")
        table = table[(table["class"] != ALL_CLASSES) & (table["model"].astype(str) == GLOBAL)]
        return table[["round", "class", "recall"]]
    if has(run, "validity"):
        table = run.table("validity")
        table = table[table["model"].astype(str) == GLOBAL]
        return table[["round", "class", "full_recall"]].rename(columns={"full_recall": "recall"})
    return pd.DataFrame({"round": [], "class": [], "recall": []})


def verdict_counts(run: Run) -> pd.DataFrame:
    """Number of each verdict by round, with the circuits of clients by status."""
    columns = [word.name for word in VERDICTS] + [word.name for word in STATUSES]
    if not has(run, "verdicts", "validity"):
        return pd.DataFrame(columns=pd.Index(["round", *columns]))
    verdicts = run.table("verdicts").groupby("round")["verdict"].value_counts().unstack()
    clients = client_validity(run)
    statuses = clients.groupby("round")["status"].value_counts().unstack()
    joined = verdicts.join(statuses, how="outer").reindex(columns=columns).fillna(0).astype(int)
    return joined.reset_index()


def client_validity(run: Run) -> pd.DataFrame:
    """Checks of the clients' circuits, without the global model's."""
    table = run.table("validity")
    return table[table["model"].astype(str) != GLOBAL]


def mean_overlap(run: Run) -> pd.DataFrame:
    """Mean local-global IoU by round and layer, chance and adjusted beside it (RQ4).

    Columns round, layer, iou, chance, adjusted, significant (share with p < .05), n (defined),
    n_undefined.
    """
    columns = ["round", "layer", "iou", "chance", "adjusted", "significant", "n", "n_undefined"]
    if not has(run, "overlap"):
        return pd.DataFrame(columns=pd.Index(columns))
    table = run.table("overlap")
    rows = []
    for (number, layer), group in table.groupby(["round", "layer"], sort=False):
        defined = group[group["iou"].notna()]
        rows.append(
            [
                number,
                layer,
                defined["iou"].mean(),
                defined["chance"].mean(),
                defined["adjusted"].mean(),
                (defined["p_value"] < 0.05).mean() if len(defined) else float("nan"),
                len(defined),
                len(group) - len(defined),
            ]
        )
    return pd.DataFrame(rows, columns=pd.Index(columns))


def functions(run: Run) -> pd.DataFrame:
    """Each client's valid circuits in its own weights and inside the global ones.

    Columns round, client, class, own, in_global (balanced accuracies), verdict.
    """
    columns = ["round", "client", "class", "own", "in_global", "verdict"]
    if not has(run, "function", "validity", "verdicts"):
        return pd.DataFrame(columns=pd.Index(columns))
    validity = client_validity(run).rename(columns={"model": "client", "balanced_accuracy": "own"})
    cross = run.table("function")
    cross = cross[cross["direction"] == "local_in_global"].rename(
        columns={"balanced_accuracy": "in_global"}
    )
    keys = ["round", "client", "class"]
    joined = validity[validity["status"] == "valid"][[*keys, "own"]]
    joined = joined.merge(cross[[*keys, "in_global"]], on=keys)
    return joined.merge(run.table("verdicts")[[*keys, "verdict"]], on=keys)[columns]
