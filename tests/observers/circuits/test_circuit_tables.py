"""Measurements in the tables of circuits are rounded; integers and what is undefined are not."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from round_circuits import model_circuits, round_of

from fedcircuit.circuits.circuit import Site
from fedcircuit.observers.circuits.circuit_tables import round_observation, rounded
from fedcircuit.observers.circuits.overlap_tables import class_swap_table, overlap_table
from fedcircuit.records.rounds.round_record import Table

SITES = (Site("x", 13, 1, "x"),)


def test_rounding_by_hand() -> None:
    cells = (1 / 3, 123456.0, -1.234565e-7, 0.5, 123456, 2**70 + 1, True, None, "0.123456")
    names = tuple("abcdefghi")
    expected = (0.33333, 123460.0, -1.2346e-7, 0.5, 123456, 2**70 + 1, True, None, "0.123456")
    (row,) = rounded(Table(names, (cells,))).rows
    assert row == expected
    assert [type(cell) for cell in row] == [type(cell) for cell in expected]


@given(st.floats())
def test_rounding_changes_a_float_by_less_than_its_fifth_digit(number: float) -> None:
    table = rounded(Table(("x",), ((number,),)))
    ((cell,),) = table.rows
    assert isinstance(cell, float)
    if not math.isfinite(number):
        assert repr(cell) == repr(number)
    elif abs(number) > 1e-300:  # smaller ones have fewer digits to begin with
        assert math.isinf(cell) or abs(cell - number) <= 5.0001e-5 * abs(number)
    assert repr(rounded(table)) == repr(table)


def test_all_tables_of_a_round_are_rounded_and_nothing_else_changes() -> None:
    random = torch.Generator().manual_seed(0)

    def one(name: str):
        scores = torch.randn(3, 13, generator=random)
        return model_circuits(name, SITES, scores > 0, scores)

    result = round_of(one("global"), {name: one(name) for name in "ab"})
    limits = {"global": {"all": torch.rand(3, generator=random).double().numpy()}}
    tables = round_observation(result, scores=False, ceilings=limits).tables
    for exact in (overlap_table(result), class_swap_table(result)):
        name = "overlap" if "iou" in exact.columns else "class_swap"
        assert repr(tables[name]) == repr(rounded(exact))
        assert repr(tables[name]) != repr(exact)
    for name in ("ceiling", "corrected"):
        cells = [cell for row in tables[name].rows for cell in row if type(cell) is float]
        assert any(not math.isnan(cell) for cell in cells)
        assert all(math.isnan(cell) or cell == float(f"{cell:.4e}") for cell in cells)
