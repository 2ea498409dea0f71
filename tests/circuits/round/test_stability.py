import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_helpers import N_CLASSES, planted_samples

from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.round.stability import corrected_overlap, swapped_halves


def test_an_overlap_is_divided_by_what_each_model_reaches_with_itself() -> None:
    # .5 / sqrt(.64 * .25) = .5 / .4
    assert corrected_overlap(np.array(0.5), np.array(0.64), np.array(0.25)) == pytest.approx(1.25)
    corrected = corrected_overlap(
        np.array([0.5, -0.1]), np.array([[0.8], [0.0]]), np.array([0.8, 0.2])
    )
    assert corrected[0] == pytest.approx([0.625, -0.25])
    assert np.isnan(corrected[1]).all()
    assert np.isnan(corrected_overlap(np.array(0.5), np.array(0.8), np.array(0.0)))


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_corrected_overlap_needs_two_positive_ceilings(value, first, second) -> None:
    result = corrected_overlap(np.array(value), np.array(first), np.array(second))
    assert np.isnan(result) == (first <= 0 or second <= 0)
    nan = np.array(math.nan)
    assert np.isnan(corrected_overlap(np.array(value), nan, np.array(0.5)))
    assert np.isnan(corrected_overlap(nan, np.array(0.5), np.array(0.5)))


def probe(seed: int = 0) -> Probe:
    names = tuple(f"class {i}" for i in range(N_CLASSES))
    return Probe.split(planted_samples(6, seed), names, seed)


def test_halves_are_exchanged() -> None:
    one = probe()
    other = swapped_halves(one)
    assert other.discovery is one.checking
    assert other.checking is one.discovery
    assert other.class_names == one.class_names
