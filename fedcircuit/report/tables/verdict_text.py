"""The verdict of a run in words, for the terminal and the top of the page."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedcircuit.records.rounds import NOT_FINITE_LOGITS
from fedcircuit.records.runs import Look, Run
from fedcircuit.report.tables import counts as tables
from fedcircuit.report.tables import overlaps
from fedcircuit.report.tables.words import STATUS_NAMES

_MOST_CLASSES, _MOST_CLIENTS = 3, 3  # named in the headline; the page names them all


def headline(run: Run) -> str:
    """What averaging did by the last observed round, with accuracy beside it, in a few sentences.

    First the fate of the valid circuits, then what collapsed, in whom and since when, then
    overlap against chance and against other classes, how many circuits could be judged at all,
    accuracy, and failures.
    """
    return " ".join(sentences(run))


def sentences(run: Run) -> tuple[str, ...]:
    """The sentences of the headline, the most important first."""
    if not run.rounds:
        return ("No round is recorded yet.",)
    told = [*_circuits(run), _accuracy(run), _failures(run)]
    if isinstance(run, Look):
        told.append(run.in_words)
    return tuple(sentence for sentence in told if sentence)


def _circuits(run: Run) -> list[str]:
    counts = tables.verdict_counts(run)
    if counts.empty:
        return [_no_verdicts(run), _of_the_clients(run)]
    last = {str(name): int(value) for name, value in counts.iloc[-1].items()}
    number, valid = last["round"], last["valid"]
    total = sum(last[name] for name in STATUS_NAMES)
    others = (
        f"{last['undiscovered']} undiscovered, {last['not_learned']} not learned by the client, "
        f"{last['absent']} absent"
        + (f", {last['not_finite']} with logits that are not finite" if last["not_finite"] else "")
    )
    if valid == 0:
        return [
            f"In round {number} no client's circuit passed the checks ({total} looked at: {others})"
            ", so nothing can be said of averaging."
        ]
    return [
        _fate(last),
        _collapsed(run, number),
        _chance(run, number),
        _other_classes(run, number),
        f"{valid} of {total} client-class pairs had a valid circuit ({others}).",
    ]


def _no_verdicts(run: Run) -> str:
    if tables.has(run, "unavailable"):
        reasons = tables.frame(run, "unavailable")["reason"]
        return f"Averaging cannot be judged: a verdict {reasons.iloc[-1]}."
    if (run.observer_errors["observer"] == "circuits").any():
        return "Averaging cannot be judged: the circuit observer failed in every round it looked."
    return "Averaging cannot be judged: no circuits were looked for."


def _of_the_clients(run: Run) -> str:
    """What clients found on their own data, where the server has none."""
    if not tables.has(run, "validity", "client_overlap"):
        return ""
    validity = tables.client_validity(run)
    validity = validity[validity["status"] != "absent"]
    if validity.empty:
        return ""
    number = int(validity["round"].max())
    last = validity[validity["round"] == number]
    valid = (last["status"] == "valid").sum()
    told = (
        f"In round {number}, {valid} of {len(last)} circuits that clients looked for on their own "
        "data passed their checks"
    )
    pairs = tables.frame(run, "client_overlap")
    pairs = pairs[(pairs["round"] == number) & (pairs["layer"] == tables.ALL_LAYERS)]
    passed = set(last.loc[last["status"] == "valid", ["client", "class"]].itertuples(index=False))
    both = [
        (a, index) in passed and (b, index) in passed
        for a, b, index in pairs[["client_a", "client_b", "class"]].itertuples(index=False)
    ]
    pairs = pairs[np.array(both, dtype=bool) & pairs["iou"].notna()]
    if pairs.empty:
        return f"{told}; no two clients have a valid circuit of the same class."
    return (
        f"{told}; valid circuits of the same class in two clients overlap by "
        f"{pairs['iou'].mean():.2f} (IoU) where chance gives {pairs['chance'].mean():.2f} "
        f"({len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'})."
    )


def _fate(last: dict[str, int]) -> str:
    number, valid, preserved = last["round"], last["valid"], last["preserved"]
    fates = [
        f"{last[name]} {name}" for name in ("relocated", "degraded", "collapsed") if last[name]
    ]
    unjudged = valid - preserved - sum(last[n] for n in ("relocated", "degraded", "collapsed"))
    if unjudged:
        fates.append(f"{unjudged} without a verdict")
    circuits = "circuit" if valid == 1 else "circuits"
    kept = f"Averaging preserved {preserved} of {valid} valid {circuits} in round {number}"
    return f"{kept}; {', '.join(fates)}." if fates else f"{kept}."


def _collapsed(run: Run, number: int) -> str:
    """Which classes collapsed, in whom, since when; the oldest first."""
    table = tables.frame(run, "verdicts")
    now = table[(table["round"] == number) & (table["verdict"] == "collapsed")]
    groups: dict[tuple[int, int], list[str]] = {}
    for client, index in now[["client", "class"]].itertuples(index=False):
        since = since_round(table, str(client), int(index))
        groups.setdefault((since, int(index)), []).append(str(client))
    told = [
        f"class {run.class_names[index]} collapsed for {_clients(clients)} since round {since}"
        for (since, index), clients in sorted(groups.items())
    ]
    if not told:
        return ""
    more = f"; {len(told) - _MOST_CLASSES} more on the page" if len(told) > _MOST_CLASSES else ""
    text = "; ".join(told[:_MOST_CLASSES]) + more
    return f"{text[0].upper()}{text[1:]}."


def _clients(names: list[str]) -> str:
    names = tables.natural_order(names)
    if len(names) == 1:
        return f"client {names[0]}"
    if len(names) > _MOST_CLIENTS:
        more = len(names) - _MOST_CLIENTS
        return f"clients {', '.join(names[:_MOST_CLIENTS])} and {more} more"
    return f"clients {', '.join(names[:-1])} and {names[-1]}"


def since_round(table: pd.DataFrame, client: str, index: int) -> int:
    """First of the latest unbroken sequence of rounds with one verdict.

    Only rounds in which this client was looked at count: clients may be sampled.

    Parameters
    ----------
    table
        The table ``verdicts`` of a run; it has a row for this client and class.
    client, index
        Whose, and of which class.
    """
    mine = table[(table["client"].astype(str) == client) & (table["class"] == index)]
    mine = mine.sort_values("round")
    verdicts, rounds = list(mine["verdict"]), list(mine["round"])
    first = len(verdicts) - 1
    while first > 0 and verdicts[first - 1] == verdicts[-1]:
        first -= 1
    return int(rounds[first])


def _chance(run: Run, number: int) -> str:
    overlap = overlaps.mean_overlap(run)
    overlap = overlap[(overlap["round"] == number) & (overlap["layer"] == tables.ALL_LAYERS)]
    if overlap.empty or not overlap["n"].iloc[0]:
        return ""
    row = overlap.iloc[0]
    n, above = int(row["n"]), round(float(row["significant"]) * int(row["n"]))
    more = f"{above} of {n} overlap more than by chance (p < .05)"
    if row["n_tested"]:
        more = (
            f"{int(row['discovered'])} of {int(row['n_tested'])} overlaps exceed chance at a "
            f"false-discovery rate of {overlaps.DISCOVERY_RATE:.0%}"
        )
    return (
        f"Valid client circuits overlap the global model's by {row['iou']:.2f} (IoU) where "
        f"chance gives {row['chance']:.2f}; {more}."
    )


def _other_classes(run: Run, number: int) -> str:
    """Whether the overlap is of the class or of any class; empty where it was not recorded."""
    overlap = overlaps.mean_overlap(run)
    overlap = overlap[(overlap["round"] == number) & (overlap["layer"] == tables.ALL_LAYERS)]
    if overlap.empty or not overlap["n_swapped"].iloc[0]:
        return ""
    row = overlap.iloc[0]
    return (
        f"Adjusted for chance they overlap the circuits of their own class by {row['own']:.2f} "
        f"and those of other classes by {row['swapped']:.2f}; {int(row['closest'])} of "
        f"{int(row['n_swapped'])} are closest to their own class, where luck would give "
        f"{row['closest_chance']:.1f}."
    )


def _accuracy(run: Run) -> str:
    table = tables.accuracy(run)
    if table.empty:
        return "Accuracy was not measured."
    last = table.iloc[-1]
    number = int(last["round"])
    if last["accuracy"] != last["accuracy"]:
        return (
            f"The global model of round {number} has no accuracy: its logits are NaN or infinite."
        )
    return f"Accuracy of the global model: {last['accuracy']:.3f} in round {number}."


def _failures(run: Run) -> str:
    told = []
    failures = run.failures
    unmeasured = failures["kind"] == NOT_FINITE_LOGITS
    if n := int((~unmeasured).sum()):
        told.append(f"{n} {'reply' if n == 1 else 'replies'} could not enter the average")
    if n := int(unmeasured.sum()):
        told.append(f"logits were not finite in {n} {'model' if n == 1 else 'models'}")
    if n := len(run.observer_errors):
        told.append(f"observers failed {n} {'time' if n == 1 else 'times'}")
    if n := len(run.evidence):
        told.append(f"the aggregation of {n} {'round' if n == 1 else 'rounds'} failed")
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}." if text else ""
