"""The checks of all circuits of a model: sufficient, specific, better than luck, not a constant.

All measures are taken on the checking half of the probe, with the ablation of the discovery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedcircuit.circuits.checks.controls import Controls, Generators, Rivals, run_controls
from fedcircuit.circuits.checks.knockout import knock_out
from fedcircuit.circuits.checks.measures import OneVsRest
from fedcircuit.circuits.checks.minimality import minimality
from fedcircuit.circuits.checks.necessity import best_units, selective_necessity
from fedcircuit.circuits.checks.subject import Candidates, CheckedModel
from fedcircuit.circuits.checks.validity import (
    NOT_FOUND,
    Status,
    Validity,
    ValidityThresholds,
    judged,
)
from fedcircuit.circuits.overlap import Side, binomial_tails, paired_overlaps
from fedcircuit.logits import not_finite_reason
from fedcircuit.ranges import require_at_least


@dataclass(frozen=True)
class CheckSettings:
    """How circuits are checked.

    Parameters
    ----------
    thresholds, controls
        What a circuit must reach, and the random ones it is compared with.
    negatives
        Samples of other classes that a circuit runs on at first. It runs on all of them if so few
        leave open on which side of its threshold the FPR lies: if an FPR at the threshold would
        give as small, or as large, a number of false positives in 5 % of cases or more.
    minimality
        Whether minimality, which costs most, is measured.

    Raises
    ------
    ValueError
        If there are no negatives.
    """

    thresholds: ValidityThresholds = field(default_factory=ValidityThresholds)
    controls: Controls = field(default_factory=Controls)
    negatives: int = 90
    minimality: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, "checks", negatives=self.negatives)


def check_circuits(
    subject: CheckedModel,
    candidates: Candidates,
    settings: CheckSettings,
    generators: Generators,
) -> tuple[Validity, ...]:
    """Check the circuits of all classes of a model, in the order of the classes.

    Of several models those of all classes of each, model after model.

    Circuits are run only where the class has samples and the full model recognises it.

    Parameters
    ----------
    subject
        The model on the checking samples.
    candidates
        The circuits, with the scores they were made of.
    settings, generators
        Thresholds and controls, and the source of the random circuits: one, or one for each of
        several models.
    """
    every = subject.n_models * len(subject.counts)
    known = [_before_checks(subject, task, settings.thresholds) for task in range(every)]
    sizes, found = candidates.masks.sum(1).tolist(), candidates.found.tolist()
    to_check = [i for i, v in enumerate(known) if v is None and found[i]]
    checked = _checked(
        subject, candidates, torch.tensor(to_check, dtype=torch.int64), settings, generators
    )
    result = []
    for index, early in enumerate(known):
        if early is None and found[index]:
            result.append(checked[index])
            continue
        status, reason = early or (Status.UNDISCOVERED, NOT_FOUND)
        result.append(
            Validity(
                status,
                reason,
                size=int(sizes[index]) if found[index] else None,
                full_recall=float(subject.full.recall[index]),
                full_fpr=float(subject.full.fpr[index]),
            )
        )
    return tuple(result)


def _before_checks(
    subject: CheckedModel, task: int, thresholds: ValidityThresholds
) -> tuple[Status, str] | None:
    """The status of a class that no circuit can change; None if it depends on the circuit."""
    if not int(subject.counts[task % len(subject.counts)]):
        return Status.ABSENT, "no sample of the class to check on"
    bad = int(subject.not_finite[task // len(subject.counts)])
    if bad:
        return Status.NOT_FINITE, not_finite_reason(bad, subject.n_samples)
    recall, fpr = float(subject.full.recall[task]), float(subject.full.fpr[task])
    if recall < thresholds.full_recall:
        return Status.NOT_LEARNED, (
            f"the full model's recall is {recall:.2f}, below {thresholds.full_recall:.2f}"
        )
    accuracy = (recall + 1 - fpr) / 2
    if math.isnan(accuracy):
        return Status.NOT_LEARNED, "no sample of another class to tell this one from"
    if accuracy < thresholds.full_balanced_accuracy:
        return Status.NOT_LEARNED, (
            f"the full model assigns {fpr:.0%} of the other samples to the class: balanced "
            f"accuracy {accuracy:.2f}, below {thresholds.full_balanced_accuracy:.2f}"
        )
    return None


def _checked(
    subject: CheckedModel,
    candidates: Candidates,
    tasks: Tensor,
    settings: CheckSettings,
    generators: Generators,
) -> dict[int, Validity]:
    if not len(tasks):
        return {}
    rows = candidates.masks[tasks]
    alone = _alone(subject, rows, tasks, settings)
    removed = knock_out(subject, rows, tasks, negatives=settings.controls.negatives)
    rivals = Rivals(rows, tasks, alone.balanced_accuracy)
    null = run_controls(subject, rivals, settings.controls, generators)
    passes = subject.has_path(rows, tasks)
    constant = ~passes | (alone.variance < settings.thresholds.output_variance)
    empty = subject.empty.separation[tasks]
    room = subject.known.separation[tasks] - empty
    again = candidates.again
    measures = {
        "full_recall": subject.full.recall[tasks],
        "full_fpr": subject.full.fpr[tasks],
        "recall": alone.recall,
        "fpr": alone.fpr,
        "balanced_accuracy": alone.balanced_accuracy,
        "auroc": alone.auroc,
        "faithfulness": torch.where(room > 0, (alone.separation - empty) / room, torch.nan),
        "null_balanced_accuracy": null.balanced_accuracy,
        "necessity": removed.necessity,
        "necessity_null": null.necessity,
        "collateral": removed.collateral,
        **_stability(subject, candidates, tasks),
        **_minimality(subject, rows, tasks, settings),
        **_selective(subject, candidates, tasks, settings.controls, generators),
    }
    columns = {name: value.tolist() for name, value in measures.items()}
    sizes, constants = rows.sum(1).tolist(), constant.tolist()
    result = {}
    for row, task in enumerate(tasks.tolist()):
        values = {name: column[row] for name, column in columns.items()}
        measured = Validity(Status.VALID, "", size=sizes[row], constant=constants[row], **values)
        repeated = again is None or bool(again.found[task])
        result[task] = judged(measured, settings.thresholds, repeated=repeated)
    return result


def _alone(
    subject: CheckedModel, masks: Tensor, tasks: Tensor, settings: CheckSettings
) -> OneVsRest:
    """Each circuit alone, on as many samples of other classes as its FPR needs."""
    alone = subject.measured(masks, tasks, negatives=settings.negatives)
    owners, classes = subject.split(tasks)
    labels = subject.labels[: subject.n_samples]
    rest = subject.rest.reshape(subject.n_models, -1)[owners]
    others = (labels != classes[:, None]) & rest
    n = others.sum(1).clamp(max=settings.negatives)
    false = (alone.fpr.nan_to_num(0.0) * n).round().numpy()
    at_most, at_least = binomial_tails(false, n.numpy(), settings.thresholds.fpr)
    open_ = torch.from_numpy((at_most >= 0.05) & (at_least >= 0.05)) & (n < others.sum(1))
    rows = open_.nonzero().flatten()
    if not len(rows):
        return alone
    return alone.replaced(rows, subject.measured(masks[rows], tasks[rows]))


def _stability(subject: CheckedModel, candidates: Candidates, tasks: Tensor) -> dict[str, Tensor]:
    """Adjusted IoU with the circuits of a second search, if there was one."""
    if candidates.again is None:
        return {}
    live = subject.live.reshape(subject.n_models, -1)[subject.split(tasks)[0]]
    first, second = (
        Side(part.masks[tasks], part.found[tasks], live) for part in (candidates, candidates.again)
    )
    table = paired_overlaps(first, second, subject.sites)
    return {"stability": torch.from_numpy(table.adjusted[:, -1])}


def _minimality(
    subject: CheckedModel, masks: Tensor, tasks: Tensor, settings: CheckSettings
) -> dict[str, Tensor]:
    """Minimality, if it is asked for."""
    if not settings.minimality:
        return {}
    negatives = settings.controls.negatives
    return {"minimality": minimality(subject, masks, tasks, negatives=negatives)}


def _selective(
    subject: CheckedModel,
    candidates: Candidates,
    tasks: Tensor,
    controls: Controls,
    generators: Generators,
) -> dict[str, Tensor]:
    """Selective necessity of the best 5 % and 10 % of units, by the names of the fields."""
    if candidates.scores is None:
        return {}
    masks, scores = candidates.masks[tasks], candidates.scores[tasks]
    best = torch.cat([best_units(masks, scores, share) for share in (0.05, 0.1)])
    both = selective_necessity(subject, best, tasks.repeat(2), controls, generators)
    five, ten = both.value.chunk(2)
    five_null, ten_null = both.null_mean.chunk(2)
    return {
        "selective_necessity_5": five,
        "selective_necessity_5_null": five_null,
        "selective_necessity_10": ten,
        "selective_necessity_10_null": ten_null,
    }
