"""Plain values and tables as JSON: nothing is lost, and what cannot be kept is refused by name."""

from __future__ import annotations

import json
from enum import StrEnum

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_examples import extras, identical, numbers, tables

from fedcircuit.records.rounds.plain_values import (
    metric_from_json,
    metric_to_json,
    number_from_json,
    number_to_json,
    table_from_json,
    table_to_json,
    value_from_json,
    value_to_json,
)
from fedcircuit.records.rounds.round_lines import to_line
from fedcircuit.records.rounds.round_record import Table
from fedcircuit.records.runs.frames import Frames

NAN = float("nan")


def through_json(payload: object) -> object:
    """What another program reads: strict JSON has no NaN."""
    return json.loads(to_line({"it": payload}), parse_constant=pytest.fail)["it"]


def test_a_table_is_written_column_by_column_with_types() -> None:
    table = Table(
        ("client", "class", "iou", "found", "verdict"),
        (("a", 0, 0.25, True, None), ("b", 1, NAN, None, None)),
    )
    assert table_to_json(table) == {
        "types": {
            "client": "text",
            "class": "int",
            "iou": "float",
            "found": "bool",
            "verdict": "null",
        },
        "cells": {
            "client": ["a", "b"],
            "class": [0, 1],
            "iou": [0.25, None],
            "found": [True, None],
            "verdict": None,
        },
    }


@given(
    st.one_of(
        st.integers(), st.floats(), st.text(), st.binary(),
        st.lists(st.one_of(st.integers(), st.floats())),
    )
)  # fmt: skip
def test_a_metric_comes_back_as_it_was(metric: float | str | bytes | list[float]) -> None:
    assert identical(metric_from_json(through_json(metric_to_json(metric))), metric)


def test_the_text_infinity_is_no_number() -> None:
    assert metric_to_json("Infinity") == {"text": "Infinity"}
    assert metric_to_json(float("inf")) == "Infinity"


@given(tables())
def test_tables_come_back_with_every_nan_none_and_type(table: Table) -> None:
    assert identical(table_from_json(through_json(table_to_json(table))), table)


def test_a_column_without_any_value_is_one_null_as_long_as_another_tells_the_rows() -> None:
    table = Table(("n", "nan", "none", "some"), ((1, NAN, None, None), (2, NAN, None, "x")))
    payload = table_to_json(table)
    assert payload == {
        "types": {"n": "int", "nan": "float", "none": "null", "some": "text"},
        "cells": {"n": [1, 2], "nan": None, "none": None, "some": [None, "x"]},
    }
    assert identical(table_from_json(through_json(payload)), table)
    nothing = Table(("nan", "none"), ((NAN, None), (NAN, None)))
    payload = table_to_json(nothing)
    assert payload["cells"] == {"nan": [None, None], "none": [None, None]}
    assert identical(table_from_json(through_json(payload)), nothing)


@given(tables())
def test_tables_written_with_all_their_nulls_are_read_the_same(table: Table) -> None:
    payload = table_to_json(table)
    cells = payload["cells"].items()
    full = {name: [None] * len(table.rows) if one is None else one for name, one in cells}
    assert identical(table_from_json({**payload, "cells": full}), table)
    frames = []
    for written in (payload["cells"], full):
        gathered = Frames()
        gathered.add(3, {"seen": {"t": {**payload, "cells": written}}})
        frames.append(gathered.frame("t"))
    pd.testing.assert_frame_equal(*frames)
    assert len(frames[0]) == len(table.rows)


@given(tables())
def test_pandas_alone_reads_the_cells_with_their_rows(table: Table) -> None:
    read = pd.DataFrame(through_json(table_to_json(table))["cells"])
    assert read.shape == (len(table.rows), len(table.columns))


def test_measurements_in_tables_keep_nine_digits_and_integers_all_of_theirs() -> None:
    table = Table(("x",), ((1 / 3,), (123456789012,), (1.25e-300,)))
    stored = table_from_json(through_json(table_to_json(table)))
    assert stored.rows == ((0.333333333,), (123456789012,), (1.25e-300,))


def test_an_absent_cell_among_floats_is_nan() -> None:
    table = Table(("x",), ((1.5,), (None,)))
    assert identical(table_from_json(table_to_json(table)), Table(("x",), ((1.5,), (NAN,))))


def test_columns_of_mixed_types_tell_nan_from_none_and_infinity_from_text() -> None:
    cells = ("Infinity", float("inf"), None, NAN, True, 1)
    table = Table(("x",), tuple((cell,) for cell in cells))
    payload = table_to_json(table)
    assert payload["types"] == {"x": "any"}
    assert identical(table_from_json(through_json(payload)), table)


def test_numpy_scalars_and_enums_become_plain_cells() -> None:
    class Status(StrEnum):
        VALID = "valid"

    row = (np.float32(0.5), np.int64(3), np.bool_(True), Status.VALID)
    stored = table_from_json(through_json(table_to_json(Table(("a", "b", "c", "d"), (row,)))))
    assert identical(stored.rows, ((0.5, 3, True, "valid"),))


def test_a_cell_that_is_no_plain_value_is_refused_with_its_column() -> None:
    with pytest.raises(TypeError, match=r"column 'who' holds \[1\] of type list"):
        table_to_json(Table(("who",), (([1],),)))


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        table_to_json(Table(("x", "x"), ((1, 2),)))


@given(numbers)
def test_numbers_come_back_whatever_they_are(number: float) -> None:
    assert identical(number_from_json(through_json(number_to_json(number))), number)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a number, got 'high'"):
        number_to_json("high")


@given(extras)
def test_nested_values_come_back(value: object) -> None:
    assert identical(value_from_json(through_json(value_to_json(value))), value)


def test_a_mapping_that_looks_like_a_tag_stays_a_mapping() -> None:
    value = {"base64": "AAAA", "float": "nan"}
    assert value_from_json(value_to_json(value)) == value


def test_a_value_of_a_foreign_type_is_refused() -> None:
    with pytest.raises(TypeError, match="of type set; use numbers, text, bytes"):
        value_to_json({1, 2})


def test_nested_values_are_tagged_as_the_page_on_the_run_folder_says() -> None:
    value = {"masks": b"\x01\x02", "loss": float("nan"), "seen": (1, True)}
    assert value_to_json(value) == {
        "object": {"masks": {"base64": "AQI="}, "loss": {"float": "nan"}, "seen": [1, True]}
    }
