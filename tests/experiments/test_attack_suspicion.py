"""Statistics of clients: of their circuits, and of their updates without circuits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from suspicion import medians, overlap_with_others, overlaps_by_class
from updates import UpdateObserver, cosine

from fedcircuit import CircuitStack, Probe, Samples, Site
from fedcircuit.learning.weights import Weights, get_weights
from fedcircuit.records.rounds.round_record import ClientRecord, RoundView

SITES = (Site("a", 4, 1, "a"),)
LIVE = np.ones((5, 4), bool)


def stack(masks: list[list[str]], found: list[list[bool]] | None = None) -> CircuitStack:
    """Circuits of the global model and of clients 0, 1, ... as texts of 0 and 1."""
    bits = torch.tensor([[[bit == "1" for bit in one] for one in row] for row in masks])
    names = ("global", *map(str, range(len(masks) - 1)))
    known = torch.ones(bits.shape[:2], dtype=torch.bool) if found is None else torch.tensor(found)
    return CircuitStack(SITES, names, bits, known)


def test_the_overlap_of_a_client_is_with_the_others_and_not_with_the_global_model() -> None:
    # two units of four: IoU of random pairs is 1, 1/3, 0 with 1/6, 4/6, 1/6: chance 7/18
    circuits = stack([["0011"], ["1100"], ["1100"], ["1100"], ["0011"]])
    apart = (0 - 7 / 18) / (1 - 7 / 18)
    assert overlap_with_others(circuits, LIVE) == pytest.approx(
        {"0": 1.0, "1": 1.0, "2": 1.0, "3": apart}  # each of the first has two like it
    )


def test_a_class_without_a_circuit_does_not_count_and_no_circuit_at_all_is_undefined() -> None:
    circuits = stack(
        [["1100", "1100"], ["1100", "1100"], ["1100", "0011"], ["0000", "0000"]],
        [[True, True], [True, False], [True, True], [False, False]],
    )
    overlaps = overlap_with_others(circuits, LIVE[:4])
    assert overlaps["0"] == overlaps["1"] == pytest.approx(1.0)  # class 0 alone
    assert math.isnan(overlaps["2"])


def test_medians_are_taken_of_what_is_defined() -> None:
    nan = math.nan
    values = np.array([[0.1, nan, nan], [0.2, 0.8, nan], [0.9, 0.4, nan]])
    np.testing.assert_allclose(medians(values), [0.2, 0.6, nan])


def test_the_overlap_of_a_client_is_the_mean_over_its_classes() -> None:
    circuits = stack([["1100", "1100"], ["1100", "1100"], ["1100", "1100"], ["1100", "0011"]])
    apart = (0 - 7 / 18) / (1 - 7 / 18)
    np.testing.assert_allclose(overlaps_by_class(circuits, LIVE[:4])["2"], [1.0, apart])
    np.testing.assert_allclose(overlaps_by_class(circuits, LIVE[:4])["0"], [1.0, (1 + apart) / 2])
    assert overlap_with_others(circuits, LIVE[:4])["2"] == pytest.approx((1 + apart) / 2)


def shifted(start: Weights, name: str, by: list[float]) -> Weights:
    """Weights with one tensor moved."""
    return {**start, name: (start[name] + np.array(by, np.float32)).astype(np.float32)}


def test_updates_are_described_without_circuits() -> None:
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
        model.bias.zero_()
    half = Samples(torch.eye(2), torch.tensor([0, 1]))
    start = get_weights(model)
    sent = (
        shifted(start, "bias", [6.0, 8.0]),  # so does this
        shifted(start, "bias", [3.0, 0.0]),
        shifted(start, "bias", [-3.0, 0.0]),  # makes every answer 1
    )
    view = RoundView(
        1, start, start, tuple(ClientRecord(str(i), 1, weights) for i, weights in enumerate(sent))
    )
    rows = UpdateObserver(model, Probe(half, half, ("a", "b")))(view).tables["updates"].rows
    # the median update is (3, 0): its cosine with (6, 8) is 3/5; zeros of six numbers
    assert rows[0] == pytest.approx(("0", 10.0, 0.6, 2 / 6, 0.5))
    assert rows[1] == pytest.approx(("1", 3.0, 1.0, 3 / 6, 0.5))
    assert rows[2] == pytest.approx(("2", 3.0, -1.0, 3 / 6, 0.5))


def test_a_round_without_clients_has_an_empty_table_and_no_direction_is_undefined() -> None:
    model = torch.nn.Linear(2, 2)
    half = Samples(torch.eye(2), torch.tensor([0, 1]))
    weights = get_weights(model)
    observer = UpdateObserver(model, Probe(half, half, ("a", "b")))
    assert observer(RoundView(1, weights, weights, ())).tables["updates"].rows == ()
    assert math.isnan(cosine(np.zeros(3), np.ones(3)))
