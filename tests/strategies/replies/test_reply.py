"""Which replies may enter an average, and in which order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.records.rounds.round_record import Failure
from fedcircuit.strategies.replies.reply import Reply, client_order, fault_of, first_non_finite

SENT = {"w": np.zeros((2, 3), np.float32), "n": np.array(4)}


def reply(**changes: object) -> Reply:
    weights = {"w": np.ones((2, 3), np.float32), "n": np.array(5)}
    return Reply("1", **{"num_examples": 7, "weights": weights, **changes})  # type: ignore[arg-type]


def test_a_reply_like_what_was_sent_is_good() -> None:
    assert fault_of(reply(), SENT) is None


def test_arrays_without_names_are_counted() -> None:
    fault = fault_of(reply(weights={"0": np.zeros((2, 3), np.float32)}), SENT)
    assert fault == Failure("1", "names", "it sent 1 arrays without names, 2 are expected")


def test_the_order_of_names_does_not_matter() -> None:
    turned = dict(reversed(reply().weights.items()))
    assert fault_of(reply(weights=turned), SENT) is None


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({"error": ("error", "boom")}, "error", "boom"),
        ({"error": ("lost", "late")}, "lost", "late"),
        ({"weights": {"w": SENT["w"]}}, "names", "missing ['n'], unexpected []"),
        ({"weights": {**SENT, "x": SENT["n"]}}, "names", "missing [], unexpected ['x']"),
        ({"weights": {**SENT, "w": SENT["w"].T}}, "shape", "'w' has shape (3, 2), expected (2, 3)"),
        ({"weights": {**SENT, "n": np.zeros(1)}}, "shape", "'n' has shape (1,), expected ()"),
        ({"weights": {**SENT, "w": SENT["w"] + np.nan}}, "non-finite", "'w' holds NaN or infinity"),
        ({"weights": {**SENT, "w": SENT["w"] + np.inf}}, "non-finite", "'w' holds NaN"),
        ({"num_examples": 0}, "count", "must be > 0, got 0"),
        ({"num_examples": -3}, "count", "must be > 0, got -3"),
        ({"num_examples": float("nan")}, "count", "must be > 0, got nan"),
        ({"num_examples": float("inf")}, "count", "must be > 0, got inf"),
    ],
)
def test_every_fault_has_a_kind_and_a_reason(
    changes: dict[str, object], kind: str, reason: str
) -> None:
    fault = fault_of(reply(**changes), SENT)
    assert isinstance(fault, Failure)
    assert (fault.client, fault.kind) == ("1", kind)
    assert reason in fault.reason


def test_integers_are_always_finite() -> None:
    assert first_non_finite({"n": np.array([2**62]), "b": np.array([True])}) is None


def test_the_first_array_that_is_not_finite_is_named() -> None:
    bad = np.array([0.0, np.nan])
    assert first_non_finite({"a": np.zeros(2), "b": bad, "c": bad}) == "b"


def test_clients_are_sorted_by_number_then_by_name() -> None:
    names = ["node-10", "10", "hospital", "2", "node-9", "0"]
    assert sorted(names, key=client_order) == ["0", "2", "10", "hospital", "node-9", "node-10"]


@given(st.lists(st.integers(0, 10**12), unique=True))
def test_partitions_are_sorted_as_numbers(partitions: list[int]) -> None:
    ordered = sorted(map(str, partitions), key=client_order)
    assert [int(name) for name in ordered] == sorted(partitions)


@given(st.text(), st.text())
def test_any_two_names_can_be_compared(first: str, second: str) -> None:
    assert (client_order(first) < client_order(second)) in (True, False)
