"""Whether a circuit is one: sufficient, specific, better than luck, and not a constant.

All measures are taken on the checking half of the probe, with the ablation of the discovery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

import torch
from torch import Tensor

from fedcircuit.circuits.checks import Candidates, CheckedModel, knock_out
from fedcircuit.circuits.controls import Controls, run_controls
from fedcircuit.circuits.minimality import minimality
from fedcircuit.circuits.necessity import best_units, selective_necessity

NOT_FOUND = "no circuit was found"


class Status(StrEnum):
    """What is known of a class in a model."""

    ABSENT = "absent"  # the checking samples have none of the class
    NOT_LEARNED = "not_learned"  # the full model does not recognise the class
    UNDISCOVERED = "undiscovered"  # recognised, but no subset of units passed the checks
    VALID = "valid"


@dataclass(frozen=True)
class ValidityThresholds:
    """When a class counts as learned, and a circuit as valid.

    A circuit is told from samples of the classes that its model recognises (`CheckedModel.rest`):
    a client that knows three of ten classes assigns the other seven to these, and its circuits are
    not to blame for it.

    Parameters
    ----------
    full_recall, full_balanced_accuracy
        The class is learned if the full model reaches both, against all samples. The second is
        what a model that assigns everything to one class (0.5) does not reach.
    balanced_accuracy
        Least balanced accuracy of the circuit.
    fpr
        Largest FPR of the circuit.
    output_variance
        A circuit none of whose centred logits varies more than this is constant.
    """

    full_recall: float = 0.5
    full_balanced_accuracy: float = 0.6
    balanced_accuracy: float = 0.8
    fpr: float = 0.1
    output_variance: float = 1e-6


@dataclass(frozen=True)
class Validity:
    """The checks of one class's circuit in one model; what was not measured is NaN (or None).

    Parameters
    ----------
    status, reason
        The status, and in words what made it so (empty where valid).
    size
        Units of the circuit; None where none was found.
    full_recall, full_fpr
        Recall and FPR of the full model, against all other samples.
    recall, fpr, balanced_accuracy, auroc
        Of the circuit alone, everything else ablated, against the classes its model recognises.
    faithfulness
        ``(m(circuit) - m(empty)) / (m(full) - m(empty))`` with m the separation of the centred
        logit; not clipped, may exceed 1 or be negative. NaN where the full model separates the
        class no better than the empty one.
    null_balanced_accuracy
        High quantile of random circuits with the same size in every layer.
    necessity, necessity_null
        Drop of the class's recall when the circuit, or such random circuits (mean), are ablated.
    collateral
        Mean drop of the other classes' recall when the circuit is ablated.
    selective_necessity_5, selective_necessity_10
        Drop of the class's recall, less the mean drop of the other recognised classes' recall,
        when the best 5 % or 10 % of the circuit's units are ablated. NaN without scores.
    selective_necessity_5_null, selective_necessity_10_null
        The same for as many random units of the same sites (mean of the draws).
    minimality
        Share of the circuit's units that it cannot do without; NaN unless asked for.
    constant
        Whether the circuit is a constant function; None where none was checked.
    """

    status: Status
    reason: str
    size: int | None = None
    full_recall: float = math.nan
    full_fpr: float = math.nan
    recall: float = math.nan
    fpr: float = math.nan
    balanced_accuracy: float = math.nan
    auroc: float = math.nan
    faithfulness: float = math.nan
    null_balanced_accuracy: float = math.nan
    necessity: float = math.nan
    necessity_null: float = math.nan
    collateral: float = math.nan
    selective_necessity_5: float = math.nan
    selective_necessity_5_null: float = math.nan
    selective_necessity_10: float = math.nan
    selective_necessity_10_null: float = math.nan
    minimality: float = math.nan
    constant: bool | None = None

    @property
    def full_balanced_accuracy(self) -> float:
        """Balanced accuracy of the full model."""
        return (self.full_recall + 1 - self.full_fpr) / 2


@dataclass(frozen=True)
class CheckSettings:
    """Thresholds and controls of the checks; whether minimality, which costs most, is measured."""

    thresholds: ValidityThresholds = field(default_factory=ValidityThresholds)
    controls: Controls = field(default_factory=Controls)
    minimality: bool = False


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
    alone = subject.measured(rows, classes)
    removed = knock_out(subject, rows, classes, negatives=settings.controls.negatives)
    null = run_controls(subject, rows, classes, settings.controls, generator)
    constant = ~subject.has_path(rows) | (alone.variance < settings.thresholds.output_variance)
    empty = subject.empty.separation[classes]
    room = subject.known.separation[classes] - empty
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
        "minimality": _minimality(subject, rows, classes, settings),
        **_selective(subject, candidates, classes, settings.controls, generator),
    }
    result = {}
    for row, index in enumerate(classes.tolist()):
        values = {name: float(value[row]) for name, value in measures.items()}
        measured = Validity(
            Status.VALID, "", size=int(rows[row].sum()), constant=bool(constant[row]), **values
        )
        result[index] = judged(measured, settings.thresholds)
    return result


def _minimality(
    subject: CheckedModel, masks: Tensor, classes: Tensor, settings: CheckSettings
) -> Tensor:
    if not settings.minimality:
        return torch.full((len(masks),), torch.nan, dtype=torch.float64)
    return minimality(subject, masks, classes, negatives=settings.controls.negatives)


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


def judged(measured: Validity, thresholds: ValidityThresholds) -> Validity:
    """The measures of a found circuit with the status they give it, and all reasons against it.

    Where there were no controls the comparison with random circuits is left out.
    """
    failures = []
    if measured.constant:
        failures.append("the circuit is a constant function")
    if not measured.balanced_accuracy >= thresholds.balanced_accuracy:
        failures.append(
            f"balanced accuracy {measured.balanced_accuracy:.3f}, "
            f"below {thresholds.balanced_accuracy:.3f}"
        )
    if not measured.fpr <= thresholds.fpr:
        failures.append(f"FPR {measured.fpr:.3f}, above {thresholds.fpr:.3f}")
    if measured.balanced_accuracy <= measured.null_balanced_accuracy:
        failures.append(
            f"balanced accuracy {measured.balanced_accuracy:.3f}, no better than the "
            f"{measured.null_balanced_accuracy:.3f} of random circuits of its size"
        )
    status = Status.UNDISCOVERED if failures else Status.VALID
    return replace(measured, status=status, reason="; ".join(failures))
