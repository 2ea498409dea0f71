"""Storage policies: exact, half-precision differences, nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_examples import identical

from fedcircuit.records.rounds.client_weights import Storage, differences, kept_updates, restored

SENT = {
    "w": np.full(1000, 1.0, np.float32),
    "sparse": np.full(1000, 1.0, np.float32),
    "n": np.array(3, np.int64),
}


def client() -> dict[str, np.ndarray]:
    mostly_zero = np.zeros(1000, np.float32)
    mostly_zero[5] = 2.0
    return {
        "w": np.linspace(1.0, 1.5, 1000, dtype=np.float32),
        "sparse": mostly_zero,
        "n": np.array(10, np.int64),
    }


def test_full_keeps_the_very_weights() -> None:
    kept, names = kept_updates(client(), SENT, "full")
    assert names == ()
    assert identical(kept, client())


def test_none_keeps_nothing() -> None:
    assert kept_updates(client(), SENT, "none") == ({}, ())


def test_differences_are_half_precision_only_where_that_is_smaller() -> None:
    kept, names = kept_updates(client(), SENT, "delta-fp16")
    assert names == ("w",)  # the sparse tensor minus a dense one would be dense
    assert kept["w"].dtype == np.float16
    assert kept["w"][-1] == np.float16(0.5)
    assert identical(kept["sparse"], client()["sparse"])
    assert identical(kept["n"], client()["n"])
    assert list(kept) == list(client())


def test_without_the_weights_sent_differences_are_not_possible_and_weights_stay_exact() -> None:
    kept, names = kept_updates(client(), None, "delta-fp16")
    assert names == ()
    assert identical(kept, client())


@given(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32))
def test_a_restored_weight_is_off_by_at_most_half_a_unit_of_the_differences_last_place(
    sent: float, trained: float
) -> None:
    before = {"w": np.full(500, sent, np.float32)}
    after = {"w": np.full(500, trained, np.float32)}
    after["w"][1::2] = np.nextafter(np.float32(trained), np.float32(1e9))
    kept, names = kept_updates(after, before, "delta-fp16")
    back = restored(kept, frozenset(names), before)
    assert back["w"].dtype == np.float32
    difference = np.abs(after["w"].astype(float) - before["w"])
    bound = difference * 2.0**-11 + 2.0**-25 + np.abs(after["w"]) * 2.0**-22
    assert np.all(np.abs(back["w"].astype(float) - after["w"]) <= bound)


@pytest.mark.parametrize("value", [1e6, float("inf"), float("-inf"), float("nan")])
def test_a_tensor_whose_difference_half_precision_cannot_hold_stays_exact(value: float) -> None:
    before = {"w": np.zeros(1000, np.float32)}
    after = {"w": np.linspace(1, 2, 1000, dtype=np.float32)}
    after["w"][3] = value
    assert differences(after, before) == {}


@pytest.mark.parametrize(
    "after",
    [
        np.ones(1000, np.float64),
        np.ones((10, 100), np.float32),
        np.ones(1000, np.int64),
    ],
)
def test_a_tensor_of_another_dtype_or_shape_than_sent_stays_exact(after: np.ndarray) -> None:
    assert differences({"w": after}, {"w": np.full(1000, 0.5, np.float32)}) == {}
    assert differences({"w": after}, {}) == {}


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of \('full', 'delta-fp16', 'none'\), got 'half'"):
        Storage(updates="half")  # type: ignore[arg-type]
