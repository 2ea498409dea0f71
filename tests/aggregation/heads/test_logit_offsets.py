"""Logit offsets of a probe with unlike many samples a class: by hand, and by another minimiser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rule_rounds import average_of, setting, whole_round
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from fedcircuit.aggregation import NO_STATE
from fedcircuit.aggregation.heads import LogitOffsets
from fedcircuit.aggregation.heads.logit_offsets import fitted_offsets


def test_classes_count_alike_however_many_samples_they_have() -> None:
    """All logits equal: three samples of class 0 and one of class 1 leave nothing to mend."""
    offsets = fitted_offsets(np.zeros((4, 2)), np.array([0, 0, 0, 1]), 1e-3)
    np.testing.assert_allclose(offsets, 0.0, atol=1e-6)


@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_offsets_of_two_classes_are_where_another_minimiser_finds_them(ridge: float) -> None:
    logits = np.array([[2.0, 0.0], [1.0, 0.5], [3.0, 0.0], [1.5, 1.0]])
    labels = np.array([0, 0, 0, 1])

    def loss(t: float) -> float:  # the gradient of the loss sums to 0 over classes: b = (-t, t)
        each = -log_softmax(logits + np.array([-t, t]), axis=1)[np.arange(4), labels]
        return float((each[:3].mean() + each[3]) / 2 + ridge / 2 * 2 * t * t)

    least = minimize_scalar(loss, options={"xtol": 1e-12}).x
    assert abs(least) > 0.1
    np.testing.assert_allclose(fitted_offsets(logits, labels, ridge), [-least, least], atol=1e-4)


def test_a_class_without_samples_keeps_its_bias() -> None:
    given, updates = setting(), whole_round()
    assert given.probe is not None
    probe = given.probe.take(given.probe.labels != 1)
    average = average_of(updates)
    got, _ = LogitOffsets()(updates, average, replace(given, probe=probe), NO_STATE)
    assert got["3.bias"][1].tobytes() == average["3.bias"][1].tobytes()
    assert (got["3.bias"][[0, 2]] != average["3.bias"][[0, 2]]).all()


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[2000.0, 0.0], [0.0, 2000.0], [2000.0, 1990.0]])
    offsets = fitted_offsets(logits, np.array([0, 1, 1]), 1e-3)
    assert np.isfinite(offsets).all()
    assert offsets[1] > offsets[0]
