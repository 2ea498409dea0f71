import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fedcircuit.wire import decoded, serialised


@given(
    st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?"]).flatmap(
        lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    )
)
def test_what_is_read_equals_flowers_own_reading_bit_for_bit(values: np.ndarray) -> None:
    array = Array(np.asarray(values))

    read = decoded(array)

    assert read.dtype == values.dtype
    assert read.shape == values.shape
    assert read.tobytes() == array.numpy().tobytes()


def test_columns_first_is_kept_apart_from_rows_first() -> None:
    values = np.asfortranarray(np.arange(6.0).reshape(2, 3))

    assert decoded(Array(values)).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_values_cannot_be_changed_in_place() -> None:
    read = decoded(Array(np.arange(3)))

    with pytest.raises(ValueError, match="read-only"):
        read[0] = 7


def test_objects_are_never_unpickled() -> None:
    made = Array(np.array([1.0]))
    made.data = made.data.replace(b"'<f8'", b"'|O' ")

    with pytest.raises(ValueError, match="dtype object, no plain numbers"):
        decoded(made)
    with pytest.raises(ValueError, match="arrays of objects cannot be sent"):
        serialised(np.array([None]))


@given(
    st.sampled_from(["f4", "f8", "i8", "?"]).flatmap(
        lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    st.booleans(),
)
def test_what_is_written_is_what_flower_writes_byte_for_byte(
    values: np.ndarray, turned: bool
) -> None:
    values = np.asarray(values).T if turned else np.asarray(values)

    assert serialised(values) == Array(values).data
