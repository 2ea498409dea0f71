"""What-if aggregation: recorded updates aggregated again under other rules, without training.

It looks one step ahead: every rule starts from the recorded weights before the round, so it says
what the next model would have been, not where a federation under the rule would have gone.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from fedcircuit.aggregation import Rule, RuleError
from fedcircuit.aggregation.named import RULE_NAMES, rule
from fedcircuit.app.mending.known import MOST_SAMPLES, Given, Known, known_of
from fedcircuit.app.mending.measuring import Meter, digest
from fedcircuit.app.mending.replay import Replay, averaged, mended, replay_of, tell_of_storage
from fedcircuit.app.mending.verdicts import OUTCOMES, Judge, client_circuits
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import CircuitSettings
from fedcircuit.learning import Weights
from fedcircuit.records.files import RunError
from fedcircuit.records.runs import Run
from fedcircuit.samples import Samples

RECORDED, FEDAVG = "as recorded", "fedavg"
COUNTS = ("kept", "learned", *OUTCOMES)  # of pairs of client and class
COLUMNS = ("round", "rule", "accuracy", "worst recall", *COUNTS, "seconds")


@dataclass(frozen=True)
class Measured:
    """What a rule would have made of one recorded round.

    Parameters
    ----------
    round, rule
        ``as recorded`` is the model that the run went on with, ``fedavg`` names the plain average.
    accuracy, worst_recall
        On the test samples; the chance level of accuracy is one over the classes.
    recall
        Of every class; NaN where there is no sample.
    kept, learned
        Pairs of client and class that the client's own model recognises, and how many of these the
        new model still does; on the checking half of the probe, where there is one.
    seconds
        Of the aggregation alone.
    lacks
        Why the rule could not be used; the figures are then NaN.
    verdicts
        How many valid circuits of clients are preserved, relocated, degraded, collapsed in the new
        model, or undecided; empty where they were not judged.
    same
        The first model of the round whose weights are these, bit for bit; empty for the first.
    """

    round: int
    rule: str
    accuracy: float = nan
    worst_recall: float = nan
    recall: tuple[float, ...] = ()
    kept: int | None = None
    learned: int | None = None
    seconds: float = nan
    lacks: str = ""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    same: str = ""


@dataclass(frozen=True)
class WhatIf:
    """All rules over all rounds that were asked for.

    Parameters
    ----------
    run, class_names
        Of what.
    rows
        A row a round and rule.
    n_test, of_test
        Test samples that were measured on, and how many there are.
    unjudged
        By round, why there are no verdicts.
    """

    run: Path
    class_names: tuple[str, ...]
    rows: tuple[Measured, ...]
    n_test: int = 0
    of_test: int = 0
    unjudged: Mapping[int, str] = field(default_factory=dict)

    def table(self) -> pd.DataFrame:
        """A row a round and rule: figures, verdicts, recall by class, what it lacks.

        A class that is called as another column stands under ``class NAME``.
        """
        taken = {*COLUMNS, "same as", "lacks"}
        names = [f"class {name}" if name in taken else name for name in self.class_names]
        table = pd.DataFrame([_cells(row, names) for row in self.rows])
        return table.astype(dict.fromkeys(COUNTS, "Int64")) if len(table) else table

    def _repr_html_(self) -> str:
        return str(self.table().to_html(index=False, float_format="{:.3f}".format))


def _cells(row: Measured, names: list[str]) -> dict[str, object]:
    figures = (row.accuracy, row.worst_recall, row.kept, row.learned)
    outcomes = [row.verdicts.get(outcome) for outcome in OUTCOMES]
    recalls = row.recall or (nan,) * len(names)
    return {
        **dict(zip(COLUMNS, (row.round, row.rule, *figures, *outcomes, row.seconds), strict=True)),
        **dict(zip(names, recalls, strict=True)),
        "same as": row.same,
        "lacks": row.lacks,
    }


def what_if(
    run: Run | Path | str,
    rules: Collection[str] | Mapping[str, Rule] | None = None,
    *,
    rounds: Collection[int] | None = None,
    model: nn.Module | None = None,
    probe: Probe | None = None,
    test: Samples | None = None,
    circuits: CircuitSettings | None = None,
    verdicts: bool = True,
    samples: int | None = MOST_SAMPLES,
) -> WhatIf:
    """Aggregate the recorded updates of rounds again under other rules, and measure what comes.

    Parameters
    ----------
    run
        A run, or its folder; it must keep its clients' weights.
    rules
        Names of ``RULE_NAMES`` (`fedcircuit.aggregation.named`), or rules by names of your
        own; None is all of them, with their default options.
    rounds
        None is the last one.
    model, probe, test, circuits
        For a run of one's own program: its network, the samples that rules may fit on, those to
        measure on (the probe's checking half where left out), and how it found circuits. A study
        brings its own.
    verdicts
        Judge the clients' recorded circuits in every new model, whose own are looked for.
    samples
        Measure on at most so many test samples, with the classes in the same shares; None is all.

    Raises
    ------
    ValueError
        If a rule or a round is not there, or what is given does not fit the run.
    RunError
        If the run keeps no client weights, or is damaged.
    """
    loaded = run if isinstance(run, Run) else Run.load(run)
    asked = _rules(rules)
    chosen = _rounds(loaded, rounds)
    known = known_of(loaded, Given(model, probe, test, circuits), samples, verdicts=verdicts)
    tell_of_storage(loaded)
    rows: list[Measured] = []
    unjudged: dict[int, str] = {}
    for number in chosen:
        with torch.no_grad():
            replay = replay_of(loaded, number, known)
            judge, why = _judge(loaded, replay, known)
            if verdicts and why:
                unjudged[number] = why
            rows += _Round(replay, known, judge).rows(asked)
    names = known.class_names
    return WhatIf(loaded.path, names, tuple(rows), len(known.test), known.n_test, unjudged)


def _rules(rules: Collection[str] | Mapping[str, Rule] | None) -> dict[str, Rule]:
    if isinstance(rules, Mapping):
        return dict(rules)
    return {name: rule(name) for name in (RULE_NAMES if rules is None else rules)}


def _rounds(run: Run, rounds: Collection[int] | None) -> list[int]:
    if not run.rounds:
        raise RunError(f"{run.path} has no round yet to aggregate again")
    chosen = [max(run.rounds)] if rounds is None else sorted(set(rounds))
    if not chosen:
        raise ValueError(f"name some rounds of 1 to {max(run.rounds)}, got none")
    if unknown := [number for number in chosen if number not in run.rounds]:
        raise ValueError(
            f"{run.path} has no round {unknown[0]}; its rounds are {min(run.rounds)} to "
            f"{max(run.rounds)}"
        )
    return chosen


def _judge(run: Run, replay: Replay, known: Known) -> tuple[Judge | None, str]:
    """Who judges models of the round; without one, why."""
    number = replay.updates.round
    if known.circuits is None:
        return None, "there is no probe to judge circuits on: give probe"
    clients = client_circuits(run, number, replay.clients)
    if clients is None:
        return None, (
            "the record holds no circuits of the clients: circuits.enabled: true, in rounds that "
            "circuits.every divides; or look again, with 'fedcircuit look', and ask of the look"
        )
    return Judge(known, number, clients), ""


class _Round:
    """The rows of one round."""

    def __init__(self, replay: Replay, known: Known, judge: Judge | None) -> None:
        self._replay, self._judge = replay, judge
        self._meter = Meter(known, [update.weights for update in replay.updates.clients])
        self._first: dict[str, str] = {}  # who gave these weights first, by digest

    def rows(self, rules: Mapping[str, Rule]) -> list[Measured]:
        """As recorded, under FedAvg, then under every rule."""
        found = [self._row(RECORDED, self._replay.recorded, nan)]
        start = time.perf_counter()
        average = averaged(self._replay.updates)
        found.append(self._row(FEDAVG, average, time.perf_counter() - start))
        return [*found, *(self._under(name, one, average) for name, one in rules.items())]

    def _under(self, name: str, one: Rule, average: Weights) -> Measured:
        start = time.perf_counter()
        try:
            weights = mended(one, self._replay, average)
        except RuleError as error:
            who = f"client {error.client}: " if error.client else ""
            return Measured(self._replay.updates.round, name, lacks=f"{who}{error.needs}")
        return self._row(name, weights, time.perf_counter() - start)

    def _row(self, name: str, weights: Weights, seconds: float) -> Measured:
        figures = self._meter.measured(weights)
        first = self._first.setdefault(digest(weights), name)
        row = Measured(
            self._replay.updates.round, name, figures.accuracy, figures.worst_recall,
            figures.recall, figures.kept, figures.learned, seconds,
        )  # fmt: skip
        verdicts = {} if self._judge is None else self._judge.counted(weights)
        return replace(row, verdicts=verdicts, same="" if first == name else first)
