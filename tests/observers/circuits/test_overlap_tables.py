"""The tables of overlaps: worked by hand, and unit by unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from round_circuits import model_circuits, round_of

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.round.round_circuits import RoundCircuits
from fedcircuit.observers.circuits.overlap_tables import class_swap_table, overlap_table
from fedcircuit.records.rounds.round_record import Table

ONE = (Site("x", 4, 1, "x"),)
TWO = (Site("a", 5, 1, "a"), Site("b", 3, 1, "b"))
LAYERS = {"a": slice(0, 5), "b": slice(5, 8), "all": slice(0, 8)}
# two of four units: an overlap of 0, 1, 2 has chance 1/6, 4/6, 1/6, so E = (4/3 + 1) / 6 = 7/18
NOTHING = (0 - 7 / 18) / (11 / 18)


def masks(*texts: str) -> torch.Tensor:
    return torch.tensor([[c == "1" for c in text] for text in texts])


def cells(table: Table, *key: object) -> dict[str, Any]:
    """The row that begins with these cells."""
    (row,) = [row for row in table.rows if row[: len(key)] == key]
    return dict(zip(table.columns, row, strict=True))


@pytest.fixture
def by_hand() -> RoundCircuits:
    """Client 0 uses the units of class 0 for both classes; client 1 has no circuit of class 0."""
    scores = torch.tensor([[3.0, 1, 0, 0], [0, 0, 1, 1]])
    average = model_circuits("global", ONE, masks("1100", "0011"), scores)
    own = torch.tensor([[1.0, 1, 2, -5], [1, 1, 0, 0]])
    clients = {
        "0": model_circuits("0", ONE, masks("1100", "1100"), own),
        "1": model_circuits("1", ONE, masks("0000", "0011"), None, torch.tensor([False, True])),
    }
    return round_of(average, clients)


def drawn(seed: int) -> RoundCircuits:
    random = torch.Generator().manual_seed(seed)

    def one(name: str):
        found = torch.rand(3, generator=random) < 0.8
        units = torch.rand(3, 8, generator=random) < 0.5
        scores = torch.randn(3, 8, generator=random)
        return model_circuits(name, TWO, units & found[:, None], scores, found)

    return round_of(one("global"), {name: one(name) for name in ("3", "1", "2")})


def test_q_values_by_hand(by_hand: RoundCircuits) -> None:
    # p-values 1/6, 1 and 1/6 (client 1 has no circuit of class 0): the smallest two become
    # 1/6 * 3/2, the largest stays
    table = overlap_table(by_hand)
    assert [row[:3] for row in table.rows if row[2] == "all"] == [
        ("0", 0, "all"), ("0", 1, "all"), ("1", 1, "all"),
    ]  # fmt: skip
    assert cells(table, "0", 0, "all")["p_value"] == pytest.approx(1 / 6)
    assert cells(table, "0", 0, "all")["q_value"] == pytest.approx(1 / 4)
    assert cells(table, "0", 1, "all")["q_value"] == pytest.approx(1.0)
    assert cells(table, "1", 1, "all")["q_value"] == pytest.approx(1 / 4)


def test_weighted_overlap_by_hand(by_hand: RoundCircuits) -> None:
    # weights 3/4 1/4 0 0 and 1/4 1/4 1/2 0: minima sum to 1/2, maxima to 3/2
    row = cells(overlap_table(by_hand), "0", 0, "all")
    assert row["weighted"] == pytest.approx(1 / 3)
    assert 0 < row["weighted_chance"] < 1


def test_without_scores_their_overlap_is_nan(by_hand: RoundCircuits) -> None:
    row = cells(overlap_table(by_hand), "1", 1, "all")
    assert row["iou"] == 1.0
    for name in ("weighted", "weighted_chance"):
        assert math.isnan(row[name])


def test_the_class_swap_by_hand(by_hand: RoundCircuits) -> None:
    # client 0's circuit of class 1 is the global one of class 0: the overlap is not of the class
    table = class_swap_table(by_hand)
    assert table.columns == ("client", "class", "layer", "swapped", "swapped_max", "n_swapped")
    expected = {("0", 0): (1.0, NOTHING), ("0", 1): (NOTHING, 1.0), ("1", 1): (1.0, NOTHING)}
    assert {row[:2] for row in table.rows} == set(expected)
    for key, (same, other) in expected.items():
        row = cells(table, *key, "all")
        assert cells(overlap_table(by_hand), *key, "all")["adjusted"] == pytest.approx(same)
        assert row["swapped"] == row["swapped_max"] == pytest.approx(other)
        assert row["n_swapped"] == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_every_layer_is_a_family_of_tests_of_its_own(seed: int) -> None:
    table = overlap_table(drawn(seed))
    for layer in LAYERS:
        rows = [cells(table, *row[:3]) for row in table.rows if row[2] == layer]
        tests = sorted((row["p_value"], row["q_value"]) for row in rows)
        tests = [pair for pair in tests if not math.isnan(pair[0])]
        least = 1.0
        for rank, (p_value, q_value) in reversed(list(enumerate(tests, start=1))):
            least = min(least, p_value * len(tests) / rank)
            assert q_value == pytest.approx(least)
        for row in rows:
            assert math.isnan(row["q_value"]) == math.isnan(row["p_value"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_weighted_overlap_unit_by_unit(seed: int) -> None:
    result = drawn(seed)
    table = overlap_table(result)
    models = {one.model: one for one in result.models}
    for client, index, layer, *_ in table.rows:
        own, other = (
            models[name].scores[index, LAYERS[layer]].clamp(min=0).double()
            for name in (client, "global")
        )
        row = cells(table, client, index, layer)
        if not (own.sum() > 0 and other.sum() > 0):
            assert math.isnan(row["weighted"])
            continue
        own, other = own / own.sum(), other / other.sum()
        expected = torch.minimum(own, other).sum() / torch.maximum(own, other).sum()
        assert row["weighted"] == pytest.approx(float(expected))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_swap_of_a_client_is_its_overlap_with_the_other_classes(seed: int) -> None:
    result = drawn(seed)
    overlaps, swaps = overlap_table(result), class_swap_table(result)
    average = result.models[0]
    for one in result.models[1:]:
        # the global circuits turned by one and by two classes: row c then holds class c + shift
        turned = []
        for shift in (1, 2):
            other = model_circuits(
                "global", TWO, average.masks.roll(-shift, 0), None, average.found.roll(-shift, 0)
            )
            turned.append(overlap_table(round_of(other, {one.model: one})))
        for index in range(3):
            for layer in LAYERS:
                key = (one.model, index, layer)
                found = [t for t in turned if any(row[:3] == key for row in t.rows)]
                values = np.array([cells(t, *key)["adjusted"] for t in found])
                values = values[~np.isnan(values)]
                same = [row for row in overlaps.rows if row[:3] == key]
                if not any(row[:3] == key for row in swaps.rows):
                    assert not len(values)
                    assert all(math.isnan(cells(overlaps, *key)["adjusted"]) for _ in same)
                    continue
                row = cells(swaps, *key)
                assert row["n_swapped"] == len(values)
                expected = [values.mean(), values.max()] if len(values) else [math.nan] * 2
                np.testing.assert_allclose([row["swapped"], row["swapped_max"]], expected)


def test_a_round_without_clients_has_columns_and_no_rows() -> None:
    average = model_circuits("global", ONE, masks("1100", "0011"), None)
    result = round_of(average, {})
    assert overlap_table(result).rows == class_swap_table(result).rows == ()
    assert "q_value" in overlap_table(result).columns
    assert "swapped_max" in class_swap_table(result).columns


def test_with_one_class_there_is_nothing_to_swap() -> None:
    average = model_circuits("global", ONE, masks("1100"), None)
    result = round_of(average, {"0": model_circuits("0", ONE, masks("1100"), None)})
    assert cells(overlap_table(result), "0", 0, "all")["adjusted"] == pytest.approx(1.0)
    row = cells(class_swap_table(result), "0", 0, "all")
    assert (math.isnan(row["swapped"]), math.isnan(row["swapped_max"])) == (True, True)
    assert row["n_swapped"] == 0
