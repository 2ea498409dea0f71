import math
from dataclasses import replace
from itertools import product

import pytest

from fedcircuit.circuits.checks.validity import Status, Validity
from fedcircuit.circuits.overlap.jaccard import Overlap
from fedcircuit.circuits.verdicts.judging import (
    CircuitFunction,
    Verdict,
    VerdictThresholds,
    verdict,
)

LOCAL = Validity(Status.VALID, "", size=9, full_recall=0.95, full_fpr=0.05)
GLOBAL = Validity(Status.VALID, "", size=9, full_recall=0.9, full_fpr=0.02)
UNFOUND = replace(GLOBAL, status=Status.UNDISCOVERED, reason="no circuit was found")
WORKS = CircuitFunction(recall=0.9, fpr=0.05, balanced_accuracy=0.925, normalised=0.97)
PARTLY = replace(WORKS, normalised=0.6)
LOST = replace(WORKS, normalised=0.1)
NOT_RUN = CircuitFunction()
SHARED = Overlap(0.6, 0.2, 0.5, 0.001, 9, 9, 7, 40)
LITTLE = replace(SHARED, iou=0.28, adjusted=0.1)  # more than chance, but little
CHANCE = replace(SHARED, iou=0.2, adjusted=0.0, p_value=0.4)
NOTHING = replace(SHARED, iou=math.nan, chance=math.nan, adjusted=math.nan, p_value=math.nan)
FULL = replace(SHARED, iou=1.0, chance=1.0, adjusted=math.nan, p_value=1.0)  # the whole pool, both


def not_learned(recall: float, fpr: float = 0.0) -> Validity:
    return Validity(Status.NOT_LEARNED, "recall", full_recall=recall, full_fpr=fpr)


@pytest.mark.parametrize(
    ("global_", "function", "overlap", "expected", "words"),
    [
        # the global model does not recognise the class any more, whatever the circuits do
        (not_learned(0.05), WORKS, SHARED, Verdict.COLLAPSED, "recall 0.05"),
        (not_learned(0.05), NOT_RUN, None, Verdict.COLLAPSED, "the client's 0.95"),
        (not_learned(1.0, fpr=0.95), WORKS, SHARED, Verdict.COLLAPSED, "accuracy 0.53"),
        # it recognises it a little
        (not_learned(0.35), WORKS, SHARED, Verdict.DEGRADED, "only partly"),
        (not_learned(0.35), LOST, None, Verdict.DEGRADED, "recall 0.35"),
        # it recognises it: where is it?
        (GLOBAL, WORKS, SHARED, Verdict.PRESERVED, "IoU 0.60, chance 0.20"),
        (GLOBAL, WORKS, CHANCE, Verdict.RELOCATED, "too few units"),
        (GLOBAL, WORKS, LITTLE, Verdict.RELOCATED, "adjusted 0.10"),
        (GLOBAL, PARTLY, SHARED, Verdict.DEGRADED, "60%"),
        (GLOBAL, PARTLY, CHANCE, Verdict.RELOCATED, "too few units"),
        (GLOBAL, PARTLY, LITTLE, Verdict.RELOCATED, "needed: adjusted 0.20"),
        (GLOBAL, LOST, SHARED, Verdict.RELOCATED, "10%"),
        (GLOBAL, LOST, CHANCE, Verdict.RELOCATED, "recognises the class, but"),
        (GLOBAL, LOST, None, Verdict.RELOCATED, "recognises the class, but"),
        # an overlap that is not defined decides nothing
        (GLOBAL, WORKS, NOTHING, None, "overlap with the global circuit is not defined"),
        (GLOBAL, WORKS, FULL, None, "overlap with the global circuit is not defined"),
        (GLOBAL, PARTLY, FULL, Verdict.DEGRADED, "60%"),
        (GLOBAL, PARTLY, NOTHING, Verdict.DEGRADED, "60%"),
        # nor does the absence of overlap with a circuit that does not work
        (UNFOUND, WORKS, None, None, "no circuit was found"),
        (UNFOUND, WORKS, CHANCE, None, "no valid circuit to compare"),
        (UNFOUND, WORKS, LITTLE, None, "no valid circuit to compare"),
        (UNFOUND, WORKS, SHARED, Verdict.PRESERVED, "IoU 0.60"),
        (UNFOUND, PARTLY, None, Verdict.DEGRADED, "60%"),
        (UNFOUND, LOST, None, Verdict.RELOCATED, "10%"),
        # the circuit carries what is left, but little is left
        (replace(GLOBAL, full_recall=0.6), WORKS, SHARED, Verdict.DEGRADED, "recall is 0.60"),
        (replace(GLOBAL, full_recall=0.77), WORKS, SHARED, Verdict.PRESERVED, ""),
        # nothing to judge
        (Validity(Status.ABSENT, "no sample"), NOT_RUN, None, None, "no sample"),
        (GLOBAL, NOT_RUN, SHARED, None, "not run"),
    ],
)
def test_verdicts(global_, function, overlap, expected, words) -> None:
    found, reason = verdict(LOCAL, global_, function, overlap)
    assert found is expected
    assert words in reason
    assert reason


@pytest.mark.parametrize("status", [Status.ABSENT, Status.NOT_LEARNED, Status.UNDISCOVERED])
def test_only_a_clients_valid_circuit_is_judged(status) -> None:
    own = Validity(status, "because")
    assert verdict(own, GLOBAL, WORKS, SHARED) == (
        None,
        f"the client has no valid circuit ({status}: because)",
    )


def test_every_combination_lands_somewhere() -> None:
    worlds = [
        *(replace(GLOBAL, full_recall=r, full_fpr=f) for r in (0.55, 0.9) for f in (0.0, 0.2)),
        *(not_learned(r, f) for r in (0.0, 0.3, 1.0) for f in (0.0, 0.9)),
        UNFOUND,
    ]
    functions = [replace(WORKS, normalised=share) for share in (-0.2, 0.3, 0.5, 0.9, 1.2)]
    overlaps = [SHARED, CHANCE, NOTHING, None]
    for global_, function, overlap in product(worlds, functions, overlaps):
        found, reason = verdict(LOCAL, global_, function, overlap)
        undecidable = function.normalised >= 0.8 and overlap is not SHARED
        assert found is not None or undecidable
        assert reason


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"works": 0.98}, Verdict.DEGRADED),
        ({"partly": 0.98}, Verdict.RELOCATED),
        ({"p_value": 0.0005}, Verdict.RELOCATED),
        ({"adjusted_iou": 0.51}, Verdict.RELOCATED),
        ({"kept_recall": 0.99}, Verdict.DEGRADED),
        ({"gone_recall": 0.95}, Verdict.COLLAPSED),
        ({"gone_balanced_accuracy": 0.95}, Verdict.COLLAPSED),
    ],
)
def test_thresholds_move_the_verdict(changes, expected) -> None:
    found, _ = verdict(LOCAL, GLOBAL, WORKS, SHARED, VerdictThresholds(**changes))
    assert found is expected


def test_a_share_at_a_threshold_counts_as_reached() -> None:
    at = VerdictThresholds(works=0.97, partly=0.97, adjusted_iou=0.5)
    assert verdict(LOCAL, GLOBAL, WORKS, SHARED, at)[0] is Verdict.PRESERVED
    assert verdict(LOCAL, GLOBAL, PARTLY, SHARED, replace(at, partly=0.6))[0] is Verdict.DEGRADED


def test_a_least_overlap_does_not_replace_the_p_value() -> None:
    lucky = replace(SHARED, adjusted=0.9, p_value=0.3)  # as of two circuits of one unit
    assert verdict(LOCAL, GLOBAL, WORKS, lucky)[0] is Verdict.RELOCATED
