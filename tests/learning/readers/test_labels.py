"""Labels of any column become classes 0, 1, ... in a stated order, or the row is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.learning.readers.labels import LabelColumn, classes_of


def column(
    values: object, part: str = "train", names: tuple[str, ...] | None = None
) -> LabelColumn:
    text = isinstance(values, list) and any(isinstance(v, str) for v in values)
    array = np.array(values, dtype=object if text else None)
    return LabelColumn(array, lambda row: f"{part} row {row}", "label", names)


def found(train: object, test: object, wanted: object = None, **names: tuple[str, ...]) -> tuple:
    first, second, classes = classes_of(column(train, **names), column(test, "test"), wanted)
    return first.tolist(), second.tolist(), classes


def test_whole_numbers_are_the_classes() -> None:
    assert found([2, 0, 1], [1]) == ([2, 0, 1], [1], ("0", "1", "2"))
    assert found([1.0, 0.0], [True]) == ([1, 0], [1], ("0", "1"))
    assert found([[1], [0]], [0])[0] == [1, 0]


def test_text_is_sorted_or_in_the_order_that_is_given() -> None:
    assert found(["dog", "cat"], ["cat"]) == ([1, 0], [0], ("cat", "dog"))
    assert found(["dog", "cat"], ["cat"], ["dog", "cat"]) == ([0, 1], [1], ("dog", "cat"))
    assert found(["dog", "cat"], ["cat"], None, names=("dog", "cat", "eel")) == (
        [0, 1], [1], ("dog", "cat", "eel"),
    )  # fmt: skip


def test_values_or_names_of_whole_numbers_can_be_given() -> None:
    assert found([26, 1, 1], [26], [1, 26]) == ([1, 0, 0], [1], ("1", "26"))
    assert found([1, 1], [0], ["cat", "dog"]) == ([1, 1], [0], ("cat", "dog"))
    assert found([1, 1], [0], None, names=("cat", "dog", "eel"))[2] == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("train", "test", "wanted", "words"),
    [
        ([0, 1], [0, -1, -1], None, r"test row 1 has the label -1 .*rows: 2.*not labelled"),
        ([0, 1, -1], [0], None, r"train row 2 has the label -1"),
        ([0, 1], [2], None, r"test row 0 has the label 2 .*none of the 2 classes 0, 1"),
        ([1, 2, 3], [1], None, r"no training row has the label 0.*data\.classes: \[1, 2, 3\]"),
        ([0, 1, 5], [1], None, r"no training row has the label 2.*\[0, 1, 5\]"),
        ([0.5, 1], [1], None, "train row 0 has a label that is no whole number: 0.5"),
        ([0, np.nan], [1], None, "train row 1 has no label"),
        (["a", None], ["a"], None, "train row 1 has no label"),
        (["a", 3], ["a"], None, "train row 1 has a label that is neither"),
        (["a", 3, 4], ["a"], None, "train row 0 has a label that is no whole number, as most"),
        ([0, 1, 10**25], [1], None, "train row 2 has a label too large for a class: 10{25}"),
        ([0.0, 1e300], [1], None, r"train row 1 has a label too large for a class: 1e\+300"),
        (np.array([0, 2**64 - 1], np.uint64), [1], None, "train row 1 has a label too large"),
        ([-1, -1], [0], None, r"train row 0 has the label -1 .*all 2 training rows have negative"),
        (["a", "b"], ["c"], None, "test row 0 has the label 'c'"),
        (["a", "b"], [0, 1], None, "of training are text, those of the tests whole numbers"),
        (["a", "b"], ["a"], ["a"], "train row 1 has the label 'b'"),
        ([0, 1], [0], ["a", "a"], "different names, got a, a"),
        ([[0, 1], [1, 0]], [0], None, r"one label, label has the shape \(2, 2\).*one-hot"),
    ],
)  # fmt: skip
def test_labels_that_are_no_classes_are_refused(
    train: object, test: object, wanted: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        found(train, test, wanted)


def test_splits_that_name_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="name other classes: a, b and b, a"):
        classes_of(column([0, 1], names=("a", "b")), column([0], names=("b", "a")))


@given(st.lists(st.sampled_from(["ä", "b", "C", "d e", ""]), min_size=1, max_size=20))
def test_names_of_classes_give_the_text_back(values: list[str]) -> None:
    codes, _, names = found(values, values[:1])
    assert [names[code] for code in codes] == values
    assert list(names) == sorted(set(values))
