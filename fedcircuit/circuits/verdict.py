"""What averaging did to a client's circuit of a class: preserved, relocated, degraded, collapsed.

A verdict needs a circuit that demonstrably works in the client's own model. Then three questions,
in this order: does the global model still recognise the class; does the client's circuit carry it
there; are the global model's circuit and the client's the same units, more than by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from fedcircuit.circuits.overlap import Overlap
from fedcircuit.circuits.validity import Status, Validity


class Verdict(StrEnum):
    """What averaging did to a client's circuit of a class."""

    PRESERVED = "preserved"  # it works inside the averaged weights, on units of the global circuit
    RELOCATED = "relocated"  # the global model recognises the class with other units
    DEGRADED = "degraded"  # it works partly
    COLLAPSED = "collapsed"  # the function is gone from the global model


@dataclass(frozen=True)
class VerdictThresholds:
    """Where one verdict ends and the next begins.

    Parameters
    ----------
    gone_recall, gone_balanced_accuracy
        The class has collapsed if the global model's recall or balanced accuracy is below.
    works
        The client's circuit works in the global weights from this share of the global model's own
        performance, ``(BA - .5) / (BA_full - .5)``.
    partly
        Below this share it carries the class no more.
    kept_recall
        The global model's recall, as a share of the client's, below which the class is degraded
        although the client's circuit carries what is left of it.
    p_value
        Largest p-value of an overlap above chance.
    """

    gone_recall: float = 0.2
    gone_balanced_accuracy: float = 0.55
    works: float = 0.8
    partly: float = 0.4
    kept_recall: float = 0.8
    p_value: float = 0.05


@dataclass(frozen=True)
class CircuitFunction:
    """One model's circuit run inside another model's weights.

    Parameters
    ----------
    recall, fpr, balanced_accuracy
        Of the circuit alone in the receiving model, everything else ablated.
    normalised
        ``(BA - .5) / (BA_full - .5)`` with the full receiving model's balanced accuracy; NaN
        where that is 0.5 or less.
    """

    recall: float = math.nan
    fpr: float = math.nan
    balanced_accuracy: float = math.nan
    normalised: float = math.nan


Judgement = tuple[Verdict | None, str]


def verdict(
    local: Validity,
    global_: Validity,
    local_in_global: CircuitFunction,
    overlap: Overlap | None,
    thresholds: VerdictThresholds | None = None,
) -> Judgement:
    """The verdict on one client's circuit of one class, and its reason in words.

    None where there is nothing to judge: the client has no valid circuit, the class is not in the
    checking samples, or the circuit works but there is no valid global circuit to compare it with.

    Parameters
    ----------
    local, global_
        Checks of the class in the client's and in the global model.
    local_in_global
        The client's circuit inside the global weights.
    overlap
        Client's circuit against the global model's; None where one of them was not found.
    thresholds
        None takes the defaults.
    """
    limits = thresholds or VerdictThresholds()
    if local.status is not Status.VALID:
        return None, f"the client has no valid circuit ({local.status}: {local.reason})"
    if global_.status is Status.ABSENT:
        return None, f"the global model cannot be checked: {global_.reason}"
    recall, accuracy = global_.full_recall, global_.full_balanced_accuracy
    if recall < limits.gone_recall or accuracy < limits.gone_balanced_accuracy:
        return Verdict.COLLAPSED, (
            f"the global model does not recognise the class any more: recall {recall:.2f} "
            f"(the client's {local.full_recall:.2f}), balanced accuracy {accuracy:.2f}"
        )
    if global_.status is Status.NOT_LEARNED:
        return Verdict.DEGRADED, (
            f"the global model recognises the class only partly: recall {recall:.2f} "
            f"(the client's {local.full_recall:.2f}), balanced accuracy {accuracy:.2f}"
        )
    if math.isnan(local_in_global.normalised):
        return None, "the client's circuit was not run inside the global weights"
    return _learned_verdict(local, global_, local_in_global, overlap, limits)


def _learned_verdict(
    local: Validity,
    global_: Validity,
    local_in_global: CircuitFunction,
    overlap: Overlap | None,
    limits: VerdictThresholds,
) -> Judgement:
    """The verdict where the global model recognises the class."""
    share = local_in_global.normalised
    carries = f"the client's circuit keeps {share:.0%} of the global model's performance there"
    if share < limits.partly:
        return Verdict.RELOCATED, f"the global model recognises the class, but {carries}"
    p_value = math.nan if overlap is None else overlap.p_value
    above_chance = p_value < limits.p_value
    # units can be said to differ only from those of a circuit that works
    if not above_chance and global_.status is Status.VALID and not math.isnan(p_value):
        return Verdict.RELOCATED, (
            f"{carries}, but shares no more units with the global circuit than by chance "
            f"({_words(overlap)})"
        )
    if share < limits.works:
        return Verdict.DEGRADED, carries
    if global_.full_recall < limits.kept_recall * local.full_recall:
        return Verdict.DEGRADED, (
            f"{carries}, but the global model's recall is {global_.full_recall:.2f}, "
            f"the client's {local.full_recall:.2f}"
        )
    if above_chance:
        return Verdict.PRESERVED, f"{carries}, on units of the global circuit ({_words(overlap)})"
    return None, (
        f"{carries}, but the global model has no valid circuit to compare units with "
        f"({global_.status}: {global_.reason})"
    )


def _words(overlap: Overlap | None) -> str:
    assert overlap is not None  # a p-value that is a number came from it
    return f"IoU {overlap.iou:.2f}, chance {overlap.chance:.2f}, p {overlap.p_value:.2g}"
