"""What a valid circuit is: the measures of its checks, and the thresholds they must pass.

All measures are taken on the checking half of the probe, with the ablation of the discovery
(`fedcircuit.circuits.checks.model_checks`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

NOT_FOUND = "no circuit was found"


class Status(StrEnum):
    """What is known of a class in a model."""

    ABSENT = "absent"  # the checking samples have none of the class
    NOT_FINITE = "not_finite"  # the full model's logits are NaN or infinite for some samples
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
    stability
        Least chance-adjusted IoU with the circuit of a second search, where there was one.
    """

    full_recall: float = 0.5
    full_balanced_accuracy: float = 0.6
    balanced_accuracy: float = 0.8
    fpr: float = 0.1
    output_variance: float = 1e-6
    stability: float = 0.7


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
    stability
        Chance-adjusted IoU with the circuit of a second search, on other samples with another
        seed; NaN unless asked for, or where one of the two was not found.
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
    stability: float = math.nan
    constant: bool | None = None

    @property
    def full_balanced_accuracy(self) -> float:
        """Balanced accuracy of the full model."""
        return (self.full_recall + 1 - self.full_fpr) / 2


def judged(
    measured: Validity, thresholds: ValidityThresholds, *, repeated: bool = True
) -> Validity:
    """The measures of a found circuit with the status they give it, and all reasons against it.

    Where there were no controls the comparison with random circuits is left out, and where there
    was no second search its stability.

    Parameters
    ----------
    measured, thresholds
        The measures, whatever their status, and what they must reach.
    repeated
        False if a second search was made and found no circuit.
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
    if not repeated:
        failures.append("unstable: a second search found no circuit")
    if measured.stability < thresholds.stability:
        failures.append(
            f"unstable: adjusted IoU {measured.stability:.3f} with the circuit of a second "
            f"search, below {thresholds.stability:.3f}"
        )
    status = Status.UNDISCOVERED if failures else Status.VALID
    return replace(measured, status=status, reason="; ".join(failures))
