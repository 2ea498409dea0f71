"""The checks of all circuits of a model: sufficient, specific, better than luck, not a constant.

All measures are taken on the checking half of the probe, with the ablation of the discovery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from scipy.stats import binom
from torch import Tensor

from fedcircuit.circuits.checks import Candidates, CheckedModel, knock_out
from fedcircuit.circuits.controls import Controls, Rivals, run_controls
from fedcircuit.circuits.measures import OneVsRest
from fedcircuit.circuits.minimality import minimality
from fedcircuit.circuits.necessity import best_units, selective_necessity
from fedcircuit.circuits.overlap import Side, paired_overlaps
from fedcircuit.circuits.validity import (
    NOT_FOUND,
    Status,
    Validity,
    ValidityThresholds,
    judged,
)


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
        if self.negatives < 1:
            raise ValueError(f"negatives must be >= 1, got {self.negatives} (checks)")


def check_circuits(
    subject: CheckedModel,
    candidates: Candidates,
    settings: CheckSettings,
    generator: torch.Generator,
) -> tuple[Validity, ...]:
    """Check the circuits of all classes of a model, in the order of the classes.

    Circuits are run only where the class has samples and the full model recognises it.

    Parameters
    ----------
    subject
        The model on the checking samples.
    candidates
        The circuits, with the scores they were made of.
    settings, generator
        Thresholds and controls, and the source of the random circuits.
    """
    known = [
        _before_checks(subject, index, settings.thresholds) for index in range(len(subject.counts))
    ]
    sizes, found = candidates.masks.sum(1).tolist(), candidates.found.tolist()
    to_check = [i for i, v in enumerate(known) if v is None and found[i]]
    checked = _checked(
        subject, candidates, torch.tensor(to_check, dtype=torch.int64), settings, generator
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
    subject: CheckedModel, index: int, thresholds: ValidityThresholds
) -> tuple[Status, str] | None:
    """The status of a class that no circuit can change; None if it depends on the circuit."""
    if not int(subject.counts[index]):
        return Status.ABSENT, "no sample of the class to check on"
    recall, fpr = float(subject.full.recall[index]), float(subject.full.fpr[index])
    if recall < thresholds.full_recall:
        return Status.NOT_LEARNED, (
            f"the full model's recall is {recall:.2f}, below {thresholds.full_recall:.2f}"
        )
    accuracy = float(subject.full.balanced_accuracy[index])
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
    classes: Tensor,
    settings: CheckSettings,
    generator: torch.Generator,
) -> dict[int, Validity]:
    if not len(classes):
        return {}
    rows = candidates.masks[classes]
    alone = _alone(subject, rows, classes, settings)
    removed = knock_out(subject, rows, classes, negatives=settings.controls.negatives)
    rivals = Rivals(rows, classes, alone.balanced_accuracy)
    null = run_controls(subject, rivals, settings.controls, generator)
    constant = ~subject.has_path(rows) | (alone.variance < settings.thresholds.output_variance)
    empty = subject.empty.separation[classes]
    room = subject.known.separation[classes] - empty
    again = candidates.again
    measures = {
        "full_recall": subject.full.recall[classes],
        "full_fpr": subject.full.fpr[classes],
        "recall": alone.recall,
        "fpr": alone.fpr,
        "balanced_accuracy": alone.balanced_accuracy,
        "auroc": alone.auroc,
        "faithfulness": torch.where(room > 0, (alone.separation - empty) / room, torch.nan),
        "null_balanced_accuracy": null.balanced_accuracy,
        "necessity": removed.necessity,
        "necessity_null": null.necessity,
        "collateral": removed.collateral,
        **_stability(subject, candidates, classes),
        **_minimality(subject, rows, classes, settings),
        **_selective(subject, candidates, classes, settings.controls, generator),
    }
    result = {}
    for row, index in enumerate(classes.tolist()):
        values = {name: float(value[row]) for name, value in measures.items()}
        measured = Validity(
            Status.VALID, "", size=int(rows[row].sum()), constant=bool(constant[row]), **values
        )
        repeated = again is None or bool(again.found[index])
        result[index] = judged(measured, settings.thresholds, repeated=repeated)
    return result


def _alone(
    subject: CheckedModel, masks: Tensor, classes: Tensor, settings: CheckSettings
) -> OneVsRest:
    """Each circuit alone, on as many samples of other classes as its FPR needs."""
    alone = subject.measured(masks, classes, negatives=settings.negatives)
    others = (subject.labels != classes[:, None]) & subject.rest
    n = others.sum(1).clamp(max=settings.negatives)
    false = (alone.fpr.nan_to_num(0.0) * n).round().numpy()
    at_most = binom.cdf(false, n.numpy(), settings.thresholds.fpr)
    at_least = binom.sf(false - 1, n.numpy(), settings.thresholds.fpr)
    open_ = torch.from_numpy((at_most >= 0.05) & (at_least >= 0.05)) & (n < others.sum(1))
    rows = open_.nonzero().flatten()
    if not len(rows):
        return alone
    return alone.replaced(rows, subject.measured(masks[rows], classes[rows]))


def _stability(subject: CheckedModel, candidates: Candidates, classes: Tensor) -> dict[str, Tensor]:
    """Adjusted IoU with the circuits of a second search, if there was one."""
    if candidates.again is None:
        return {}
    first, second = (
        Side(part.masks[classes], part.found[classes], subject.live)
        for part in (candidates, candidates.again)
    )
    table = paired_overlaps(first, second, subject.sites)
    return {"stability": torch.from_numpy(table.adjusted[:, -1])}


def _minimality(
    subject: CheckedModel, masks: Tensor, classes: Tensor, settings: CheckSettings
) -> dict[str, Tensor]:
    """Minimality, if it is asked for."""
    if not settings.minimality:
        return {}
    negatives = settings.controls.negatives
    return {"minimality": minimality(subject, masks, classes, negatives=negatives)}


def _selective(
    subject: CheckedModel,
    candidates: Candidates,
    classes: Tensor,
    controls: Controls,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Selective necessity of the best 5 % and 10 % of units, by the names of the fields."""
    if candidates.scores is None:
        return {}
    masks, scores = candidates.masks[classes], candidates.scores[classes]
    best = torch.cat([best_units(masks, scores, share) for share in (0.05, 0.1)])
    both = selective_necessity(subject, best, classes.repeat(2), controls, generator)
    five, ten = both.value.chunk(2)
    five_null, ten_null = both.null_mean.chunk(2)
    return {
        "selective_necessity_5": five,
        "selective_necessity_5_null": five_null,
        "selective_necessity_10": ten,
        "selective_necessity_10_null": ten_null,
    }
