"""What-if aggregation: recorded updates aggregated again under other rules, without training.

It looks one step ahead: every rule starts from the recorded weights before the round, so it says
what the next model would have been, not where a federation under the rule would have gone.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from fedcircuit.aggregation import COMES_WITH, NO_STATE, Rule, RuleError, Setting, Update, Updates
from fedcircuit.aggregation.named import NEEDS, RULE_NAMES, lacking, rule
from fedcircuit.app.study import build_study, study_of
from fedcircuit.circuits.probes import Probe
from fedcircuit.learning import Weights, set_weights
from fedcircuit.learning.training import Evaluation, evaluate
from fedcircuit.records.files import RunError
from fedcircuit.records.rounds import ClientRecord
from fedcircuit.records.runs import Run
from fedcircuit.samples import Samples

RECORDED, FEDAVG = "as recorded", "fedavg"
LEARNED = 0.5  # recall from which a model counts as recognising a class, as in ValidityThresholds
NOT_RECORDED = {  # how a record comes to hold what rules need
    "probe": "give probe",
    "model": "give model",
    "masks": "circuits of all clients: observe with a probe",
    **{key: f"our clients send it with {option}" for key, option in COMES_WITH.items()},
}


@dataclass(frozen=True)
class Measured:
    """What a rule would have made of one recorded round.

    Parameters
    ----------
    round, rule
        ``as recorded`` is the model that the run went on with, ``fedcircuit`` names the others.
    accuracy, worst_recall
        On the test samples; the chance level of accuracy is one over the classes.
    recall
        Of every class; NaN where there is no sample.
    kept, learned
        Pairs of client and class that the client's own model recognises, and how many of these the
        new model still does.
    seconds
        Of the aggregation alone.
    lacks
        Why the rule could not be used; the figures are then NaN.
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


@dataclass(frozen=True)
class WhatIf:
    """All rules over all rounds that were asked for."""

    run: Path
    class_names: tuple[str, ...]
    rows: tuple[Measured, ...]

    def table(self) -> pd.DataFrame:
        """A row a round and rule: accuracy, worst-class recall, classes kept, recall by class."""
        return pd.DataFrame(
            [
                {
                    "round": row.round,
                    "rule": row.rule,
                    "accuracy": row.accuracy,
                    "worst recall": row.worst_recall,
                    "kept": row.kept,
                    "learned": row.learned,
                    "seconds": row.seconds,
                    **dict(zip(self.class_names, row.recall, strict=False)),
                    "lacks": row.lacks,
                }
                for row in self.rows
            ]
        )

    def _repr_html_(self) -> str:
        return str(self.table().to_html(index=False, float_format="{:.3f}".format))


@dataclass(frozen=True)
class Known:
    """What is known beside the record: the network, samples to fit on, others to measure on."""

    model: nn.Module
    probe: Probe | None
    test: Samples
    class_names: tuple[str, ...]
    seed: int


def what_if(
    run: Run | Path | str,
    rules: Collection[str] | Mapping[str, Rule] | None = None,
    *,
    rounds: Collection[int] | None = None,
    model: nn.Module | None = None,
    probe: Probe | None = None,
    test: Samples | None = None,
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
    model, probe, test
        For a run of one's own program: its network, the samples that rules may fit on, and those
        to measure on (the probe's checking half where left out). A study brings its own.

    Raises
    ------
    ValueError
        If a rule or a round is not there, or what is given does not fit the run.
    RunError
        If the run keeps no client weights.
    """
    loaded = run if isinstance(run, Run) else Run.load(run)
    asked = _rules(rules)
    chosen = _rounds(loaded, rounds)
    known = _known(loaded, model, probe, test)
    with torch.no_grad():
        rows = [row for number in chosen for row in _of_round(loaded, number, asked, known)]
    return WhatIf(loaded.path, known.class_names, tuple(rows))


def _rules(rules: Collection[str] | Mapping[str, Rule] | None) -> dict[str, Rule]:
    if isinstance(rules, Mapping):
        return dict(rules)
    return {name: rule(name) for name in (RULE_NAMES if rules is None else rules)}


def _rounds(run: Run, rounds: Collection[int] | None) -> list[int]:
    if not run.rounds:
        raise RunError(f"{run.path} has no round yet to aggregate again")
    chosen = [max(run.rounds)] if rounds is None else sorted(set(rounds))
    if unknown := [number for number in chosen if number not in run.rounds]:
        raise ValueError(
            f"{run.path} has no round {unknown[0]}; its rounds are {min(run.rounds)} to "
            f"{max(run.rounds)}"
        )
    return chosen


def _known(run: Run, model: nn.Module | None, probe: Probe | None, test: Samples | None) -> Known:
    if model is None:
        if not run.manifest.get("config"):
            raise RunError(
                f"{run.path} was recorded by a program of its own, which alone knows the network "
                "and the samples: give what_if(RUN, model=..., probe=...)"
            )
        study = build_study(study_of(run.manifest, run.path))
        return Known(study.model(), study.probe, study.test, study.class_names, study.config.seed)
    measured = probe.checking if test is None and probe is not None else test
    if measured is None:
        raise ValueError("give test samples, or a probe, to measure the new models on")
    names = tuple(run.manifest.get("class_names") or (() if probe is None else probe.class_names))
    return Known(model, probe, measured, names, int(run.manifest.get("seed", 0)))


def _of_round(run: Run, number: int, rules: Mapping[str, Rule], known: Known) -> list[Measured]:
    record = run.record(number)
    before = run.weights(number - 1)
    clients = [client for client in record.clients if client.weights]
    if not clients:
        raise RunError(
            f"{run.path} keeps no client weights of round {number}: record with "
            "storage.updates full or delta-fp16"
        )
    updates = Updates(number, before, tuple(_update(client) for client in clients))
    n_classes = len(known.class_names) or None
    setting = Setting(
        n_classes=n_classes,
        model=known.model,
        probe=None if known.probe is None else known.probe.discovery,
        masks=_masks(run, number, [client.client for client in clients]),
        seed=known.seed,
    )
    own = [_evaluated(known, client.weights).recall for client in clients]
    average = averaged(updates)
    rows = [
        _measured(number, RECORDED, run.weights(number), known, own, nan),
    ]
    start = time.perf_counter()
    average = averaged(updates)
    rows.append(_measured(number, FEDAVG, average, known, own, time.perf_counter() - start))
    for name, made in rules.items():
        rows.append(_under(number, name, made, updates, average, setting, known, own))
    return rows


def _under(
    number: int, name: str, made: Rule, updates: Updates, average: Weights, setting: Setting,
    known: Known, own: Sequence[Sequence[float]],
) -> Measured:  # fmt: skip
    missing = lacking(made.name, updates, setting) if made.name in NEEDS else ()
    if missing:
        return Measured(number, name, lacks="the record lacks " + ", ".join(map(_hint, missing)))
    start = time.perf_counter()
    try:
        with torch.enable_grad():
            mended, _ = made(updates, average, setting, NO_STATE)
    except RuleError as error:
        return Measured(number, name, lacks=error.needs)
    return _measured(number, name, mended, known, own, time.perf_counter() - start)


def _hint(need: str) -> str:
    options = need.split("|")
    told = [NOT_RECORDED[one] for one in options if one in NOT_RECORDED]
    return " or ".join(options) + (f" ({told[0]})" if told else " (its clients must send it)")


def averaged(updates: Updates) -> dict[str, NDArray[np.generic]]:
    """FedAvg: the mean by samples, in float64, with the dtypes of the weights before."""
    result: dict[str, NDArray[np.generic]] = {}
    for name, values in updates.before.items():
        mean = sum(
            share * update.weights[name].astype(np.float64)
            for share, update in zip(updates.shares, updates.clients, strict=True)
        )
        result[name] = np.asarray(mean).astype(values.dtype)
    return result


def _update(client: ClientRecord) -> Update:
    said: dict[str, Any] = dict(client.extra)
    return Update(client.client, client.num_examples, client.weights, said, client.received)


def _masks(run: Run, number: int, clients: Sequence[str]) -> NDArray[np.bool_] | None:
    """``[clients, classes, units]`` of the circuits that the run found; None without them."""
    stack = run.masks(number)
    if stack is None or not set(clients) <= set(stack.models):
        return None
    places = [stack.models.index(client) for client in clients]
    masks: NDArray[np.bool_] = (stack.masks & stack.found.unsqueeze(-1))[places].numpy()
    return masks


def _evaluated(known: Known, weights: Weights) -> Evaluation:
    set_weights(known.model, weights)
    return evaluate(known.model, known.test, n_classes=len(known.class_names))


def _measured(
    number: int, name: str, weights: Weights, known: Known, own: Sequence[Sequence[float]],
    seconds: float,
) -> Measured:  # fmt: skip
    found = _evaluated(known, weights)
    defined = [value for value in found.recall if not isnan(value)]
    pairs = [(c, r) for recalls in own for c, r in enumerate(recalls) if r >= LEARNED]
    kept = sum(found.recall[c] >= LEARNED for c, _ in pairs)
    return Measured(
        number, name, found.accuracy, min(defined, default=nan), found.recall, kept, len(pairs),
        seconds,
    )  # fmt: skip
