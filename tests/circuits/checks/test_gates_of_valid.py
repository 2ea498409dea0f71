import math
from dataclasses import replace

import pytest

from fedcircuit.circuits.checks.validity import Status, Validity, ValidityThresholds, judged

GOOD = Validity(
    Status.VALID, "", size=5, full_recall=0.95, full_fpr=0.02, recall=0.9, fpr=0.05,
    balanced_accuracy=0.925, null_balanced_accuracy=0.6, constant=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"recall": 0.6, "balanced_accuracy": 0.775}, "balanced accuracy 0.775, below 0.800"),
        ({"fpr": 0.2}, "FPR 0.200, above 0.100"),
        ({"null_balanced_accuracy": 0.925}, "no better than the 0.925 of random circuits"),
        ({"null_balanced_accuracy": math.nan}, ""),  # no controls: left out
        ({"stability": 0.7}, ""),
        ({"stability": 0.69}, "unstable: adjusted IoU 0.690 with the circuit of a second search"),
        ({"stability": math.nan}, ""),  # no second search: left out
        ({"fpr": math.nan, "balanced_accuracy": math.nan}, "below 0.800; FPR nan"),
    ],
)
def test_the_gates_of_valid(changes, reason) -> None:
    result = judged(replace(GOOD, **changes), ValidityThresholds())
    assert (result.status is Status.VALID) == (reason == "")
    assert reason in result.reason
    assert (result.reason == "") == (reason == "")


def test_every_failed_gate_is_named() -> None:
    bad = replace(GOOD, constant=True, recall=1, fpr=1, balanced_accuracy=0.5, stability=0.1)
    reason = judged(bad, ValidityThresholds()).reason
    assert reason.count(";") == 4


def test_a_circuit_that_a_second_search_does_not_find_is_unstable() -> None:
    result = judged(GOOD, ValidityThresholds(), repeated=False)
    assert result.status is Status.UNDISCOVERED
    assert result.reason == "unstable: a second search found no circuit"


def test_a_constant_that_happens_to_score_is_refused() -> None:
    perfect = Validity(
        Status.VALID, "", full_recall=1, full_fpr=0, recall=1, fpr=0, balanced_accuracy=1,
        null_balanced_accuracy=0.5, constant=True,
    )  # fmt: skip
    assert judged(perfect, ValidityThresholds()).status is Status.UNDISCOVERED
