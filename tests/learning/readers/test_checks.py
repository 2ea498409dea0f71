"""Columns become float32 without losing what tells their numbers apart."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.learning.readers.checks import in_float32


def narrow(values: np.ndarray) -> np.ndarray:
    return in_float32(values, "column 'a'", lambda row: f"a.csv row {row}")


def test_numbers_that_float32_holds_are_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    values = np.array([1.5, -2.25, 2.0**100, 0.0])
    assert narrow(values).tolist() == values.tolist()
    assert narrow(np.array([True, False])).tolist() == [1, 0]
    assert narrow(np.zeros(0)).shape == (0,)
    assert narrow(np.full(5, 2**60 + 1)).tolist() == [2.0**60] * 5  # a constant tells nothing
    assert np.isnan(narrow(np.array([np.nan, 1.0]))).tolist() == [True, False]
    assert not caplog.records


def test_times_in_seconds_are_said_and_finer_ones_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Near 1.7e9 float32 has steps of 128, which round by 128 / sqrt(12) = 37."""
    minutes = 1_700_000_000 + 60 * np.arange(100)  # sd 1732, of which 37 is 2 %
    assert narrow(minutes).dtype == np.float32
    ((_, level, words),) = caplog.record_tuples
    assert level == logging.WARNING
    assert "rounds by 2% of the standard deviation" in words
    with pytest.raises(ValueError, match="goes from 1700000000 to 1700000099.*subtract what all"):
        narrow(1_700_000_000 + np.arange(100))


def test_a_number_beyond_float32_is_named() -> None:
    with pytest.raises(ValueError, match=r"a.csv row 1 has -1e\+39 in column 'a', beyond"):
        narrow(np.array([0.0, -1e39]))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.sampled_from([-1e5, 0.0, 1e3]))
def test_what_passes_keeps_the_spread(values: list[float], shift: float) -> None:
    wide = np.array(values) + shift
    try:
        found = narrow(wide)
    except ValueError:
        assert np.ptp(wide) < 1  # only what differs by less than steps of float32
    else:
        assert found.astype(np.float64).std() == pytest.approx(wide.std(), rel=0.12, abs=1e-30)
