"""What the demo says: what its federation is, and what one sees in what it recorded."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fedcircuit.app.config import StudyConfig
from fedcircuit.records.runs import Run
from fedcircuit.report.tables import VERDICT_NAMES
from fedcircuit.report.tables import counts as tables


def introduction(config: StudyConfig) -> str:
    """Who holds which digits, and which of them one client holds alone."""
    held = config.partition.classes or ()
    clients = "; ".join(f"client {i}: {_listed(digits)}" for i, digits in enumerate(held))
    return (
        f"{len(held)} clients hold images of digits, none of them all ten ({clients}); with one "
        f"client alone: {_listed(alone(held))}."
    )


def alone(held: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Classes that one client holds and no other."""
    everything = [index for classes in held for index in classes]
    return tuple(sorted(index for index in set(everything) if everything.count(index) == 1))


def what_one_sees(run: Run) -> str:
    """Verdicts in the first and the last round, and of classes that one client or more hold."""
    partition = run.partition
    judged = tables.judged(run)
    judged = judged[judged["word"].isin(VERDICT_NAMES)]
    if partition is None or judged.empty:
        return "No circuit could be judged."
    counts = pd.DataFrame(partition["counts"])
    single = [int(index) for index in counts.columns if (counts[index] > 0).sum() == 1]
    first, last = run.rounds[0], run.rounds[-1]
    begin, end = (_preserved(judged[judged["round"] == number]) for number in (first, last))
    lines = [
        "What one sees: classes that several clients hold are averaged with models that know "
        "them, classes of one client with models that do not.",
        f"  preserved in round {first}: {begin}; in round {last}: {end}.",
    ]
    shared = judged[~judged["class"].isin(single)]
    lines.append(f"  all rounds, digits that several clients hold: {_verdicts(shared)}.")
    for index in single:
        name = run.class_names[index]
        lines.append(
            f"  all rounds, digit {name}, which one client holds: "
            f"{_verdicts(judged[judged['class'] == index])}."
        )
    return "\n".join(lines)


def _preserved(judged: pd.DataFrame) -> str:
    n = int((judged["word"] == "preserved").sum())
    return f"{n} of {len(judged)} valid circuits"


def _verdicts(judged: pd.DataFrame) -> str:
    if judged.empty:
        return "none could be judged"
    counts = judged["word"].value_counts()
    return ", ".join(f"{counts[name]} {name}" for name in VERDICT_NAMES if name in counts)


def _listed(digits: Sequence[int]) -> str:
    return " ".join(map(str, digits))
