"""Figures of a run as small tables: what the page, the plots and the comparison have in common."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import pandas as pd

from fedcircuit.records.runs import Run
from fedcircuit.report.tables.words import STATUS_NAMES, VERDICT_NAMES

GLOBAL = "global"
ALL_CLASSES = -1  # class index of figures over all classes
ALL_LAYERS = "all"
KEYS = ["round", "client", "class"]


# a run reads its lines anew into a frame each time; a report asks for a frame a dozen times
_FRAMES: WeakKeyDictionary[Run, dict[str, pd.DataFrame]] = WeakKeyDictionary()


def frame(run: Run, name: str) -> pd.DataFrame:
    """``run.table(name)``, made once for every loaded run; not to be changed in place."""
    frames = _FRAMES.setdefault(run, {})
    if name not in frames:
        frames[name] = Run.table(run, name)  # a plain frame: one that holds its run would stay
    return frames[name]


def has(run: Run, *names: str) -> bool:
    """Whether the run has all of these tables, each with a row."""
    return all(name in run.table_names and len(frame(run, name)) for name in names)


def empty(columns: Sequence[str]) -> pd.DataFrame:
    """A table of the report without rows, ``round`` among its columns."""
    return pd.DataFrame({name: pd.Series(dtype=float) for name in columns}).astype({"round": int})


def accuracy(run: Run) -> pd.DataFrame:
    """Global accuracy by round: columns round, accuracy, source. Empty where none was measured.

    ``source`` is ``held-out samples`` of the server, else ``clients' evaluation`` where Flower's
    federated evaluation gave an ``accuracy``.
    """
    columns = ["round", "accuracy", "source"]
    if has(run, "accuracy"):
        table = frame(run, "accuracy")
        chosen = table[(table["class"] == ALL_CLASSES) & (table["model"].astype(str) == GLOBAL)]
        chosen = chosen.rename(columns={"recall": "accuracy"})
        return chosen.assign(source="held-out samples")[columns].reset_index(drop=True)
    if "accuracy" in run.evaluations:
        return run.evaluations.assign(source="clients' evaluation")[columns]
    return empty(columns)


def class_recall(run: Run) -> pd.DataFrame:
    """Recall of the global model: round, class, recall; on test samples, else on the probe."""
    if has(run, "accuracy"):
        table = frame(run, "accuracy")
        table = table[(table["class"] != ALL_CLASSES) & (table["model"].astype(str) == GLOBAL)]
        return table[["round", "class", "recall"]].reset_index(drop=True)
    if has(run, "validity"):
        table = frame(run, "validity")
        table = table[table["model"].astype(str) == GLOBAL]
        table = table.rename(columns={"full_recall": "recall"})
        return table[["round", "class", "recall"]].reset_index(drop=True)
    return empty(["round", "class", "recall"])


def client_validity(run: Run) -> pd.DataFrame:
    """Checks of the clients' circuits: the table ``validity`` with ``client`` for ``model``."""
    rows = frame(run, "validity")
    return rows[rows["model"].astype(str) != GLOBAL].rename(columns={"model": "client"})


def judged(run: Run) -> pd.DataFrame:
    """One row a round, client and class: verdict, status, word and reason.

    ``word`` is the verdict where there is one, else the status of the client's circuit.
    """
    columns = [*KEYS, "verdict", "status", "word", "reason"]
    if not has(run, "verdicts", "validity"):
        return empty(columns)
    status = client_validity(run).rename(columns={"reason": "why"})
    joined = frame(run, "verdicts").merge(status[[*KEYS, "status", "why"]], on=KEYS)
    joined["word"] = joined["verdict"].where(joined["verdict"].notna(), joined["status"])
    # what keeps a circuit from being judged is what its status says, unless it is valid
    joined["reason"] = joined["reason"].where(joined["status"] == "valid", joined["why"])
    return joined[columns]


def verdict_counts(run: Run) -> pd.DataFrame:
    """By round the number of each verdict, and of each status of the clients' circuits."""
    names = [*VERDICT_NAMES, *STATUS_NAMES]
    rows = judged(run)
    if rows.empty:
        return empty(["round", *names])
    verdicts = pd.crosstab(rows["round"], rows["verdict"])
    statuses = pd.crosstab(rows["round"], rows["status"])
    counts = statuses.join(verdicts).reindex(columns=names).fillna(0).astype(int)
    return counts.rename_axis(columns=None).reset_index()


def functions(run: Run) -> pd.DataFrame:
    """Each client's valid circuits in its own weights and inside the global ones.

    Columns round, client, class, own, in_global (balanced accuracies), verdict.
    """
    columns = [*KEYS, "own", "in_global", "verdict"]
    if not has(run, "function", "validity", "verdicts"):
        return empty(columns)
    own = client_validity(run).rename(columns={"balanced_accuracy": "own"})
    cross = frame(run, "function").rename(columns={"balanced_accuracy": "in_global"})
    cross = cross[cross["direction"] == "local_in_global"]
    joined = own.loc[own["status"] == "valid", [*KEYS, "own"]].merge(
        cross[[*KEYS, "in_global"]], on=KEYS
    )
    return joined.merge(frame(run, "verdicts")[[*KEYS, "verdict"]], on=KEYS)[columns]


def sizes(run: Run) -> pd.DataFrame:
    """Units of every circuit found: round, model, class, size, status."""
    columns = ["round", "model", "class", "size", "status"]
    if not has(run, "validity"):
        return empty(columns)
    rows = frame(run, "validity")
    return rows.loc[rows["size"].notna(), columns].reset_index(drop=True)


def natural_order(names: Sequence[str]) -> list[str]:
    """Names sorted as people do: 2 before 10, numbers before words."""
    return sorted(names, key=lambda name: (not name.isdecimal(), name.zfill(20)))
