"""Arrays in a safetensors file: exact, in order, under any name, and small."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_examples import DTYPES, arrays, identical, names, weights
from safetensors.numpy import load, save_file

from fedcircuit.records.files.array_files import TensorFile, decode, encode, encoded_size, to_bytes


def sparse(size: int, at: dict[int, float], dtype: str = "float32") -> np.ndarray:
    values = np.zeros(size, dtype)
    for position, value in at.items():
        values[position] = value
    return values


def test_few_entries_become_gaps_of_one_byte_with_255_for_further_on() -> None:
    values = sparse(1000, {0: 1.0, 3: 2.0, 258: 3.0, 900: -0.0})
    parts = encode(values)
    # 0; 3 further; 255 further is one "on" and 0; 642 further is two "on" and 132
    assert parts["gaps"].dtype == np.uint8
    assert parts["gaps"].tolist() == [0, 3, 255, 0, 255, 255, 132]
    assert parts["values"].tobytes() == struct.pack("<4f", 1.0, 2.0, 3.0, -0.0)
    assert set(parts) == {"gaps", "values"}


def test_entries_far_apart_become_gaps_of_two_bytes() -> None:
    values = sparse(200_000, {5: 1.0, 65_540: 2.0, 199_999: 3.0})
    parts = encode(values)
    assert parts["gaps"].dtype == np.uint16
    assert parts["gaps"].tolist() == [5, 65535, 0, 65535, 65535, 3389]
    assert identical(decode(parts, values.shape), values)


def test_many_entries_become_a_mask_with_the_first_entry_in_the_highest_bit() -> None:
    values = np.tile(np.array([7.0, 0.0, 0.0, 8.0, 9.0, 0.0], "float64"), 100)
    parts = encode(values)
    assert set(parts) == {"mask", "values"}
    assert parts["mask"][0] == 0b10011010
    assert len(parts["mask"]) == 75
    assert parts["values"][:3].tolist() == [7.0, 8.0, 9.0]


def test_dense_entries_stay_as_they_are() -> None:
    values = np.arange(1.0, 100.0, dtype=np.float32)
    assert set(encode(values)) == {"dense"}


def test_an_entry_is_zero_only_if_all_its_bits_are() -> None:
    nan_with_payload = np.array([0x7FC0BEEF], dtype=np.uint32).view(np.float32)[0]
    values = sparse(5000, {7: -0.0, 8: float("nan"), 9: float("-inf")})
    values[4000] = nan_with_payload
    assert len(encode(values)["values"]) == 4
    assert identical(decode(encode(values), values.shape), values)


def test_weights_cut_by_a_mask_are_small_although_half_of_their_zeros_have_a_sign() -> None:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal(10_000).astype(np.float32)
    cut = dense * (np.abs(dense) > 2.576)
    assert 0.4 < np.mean(np.signbit(cut[cut == 0])) < 0.6
    parts = encode(cut)
    assert set(parts) == {"gaps", "values", "signs"}
    assert len(parts["signs"]) == 1250
    assert encoded_size(parts) < 0.06 * cut.nbytes
    assert identical(decode(parts, cut.shape), cut)


@given(arrays())
def test_every_array_comes_back_bit_for_bit(values: np.ndarray) -> None:
    assert identical(decode(encode(values), values.shape), values)


@given(arrays())
def test_the_form_is_never_larger_than_the_dense_one(values: np.ndarray) -> None:
    assert encoded_size(encode(values)) <= encoded_size({"dense": values})


@given(st.lists(st.integers(0, 150_000), max_size=30, unique=True), st.sampled_from(DTYPES))
def test_positions_at_any_distance_are_found_again(at: list[int], dtype: str) -> None:
    values = sparse(150_001, dict.fromkeys(at, 1), dtype)
    assert identical(decode(encode(values), values.shape), values)


def test_each_kept_entry_of_one_in_a_hundred_takes_little_more_than_a_byte_of_place() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(100_000) < 0.01, 1.0, 0.0).astype(np.float32)
    n_kept = np.count_nonzero(values)
    assert encode(values)["gaps"].nbytes < 1.12 * n_kept


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(20.0)[::2],
        np.zeros((200, 300), "float32", order="F"),
        np.arange(5, dtype=">f8"),
        np.broadcast_to(np.float32(3), (4, 5)),
    ],
)
def test_memory_layout_and_byte_order_do_not_matter(values: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(to_bytes({"g": {"x": values}}, {}))
    stored = TensorFile(path).read("g")["x"]
    assert stored.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(stored, values)


@given(st.dictionaries(names.map(lambda name: name.replace("/", "")), weights, max_size=3))
def test_a_file_gives_back_its_groups_in_order_whatever_the_names(
    groups: dict[str, dict[str, np.ndarray]],
) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(to_bytes(groups, {"round": 7}))
        file.flush()
        stored = TensorFile(Path(file.name))
        assert stored.notes == {"round": 7}
        assert stored.groups == tuple(groups)
        assert identical({group: stored.read(group) for group in stored.groups}, groups)


def test_names_that_look_like_parts_are_kept_apart(tmp_path: Path) -> None:
    many_zeros = sparse(4000, {3: 1.0})
    group = {
        "w": many_zeros,
        "values/w": np.ones(2),
        "gaps/w": np.zeros(0),
        "dense/w": np.full(1, 5.0),
        "../up": np.array(2, np.int64),
        "": many_zeros * 2,
        "__metadata__": np.array([True]),
    }
    path = tmp_path / "file"
    path.write_bytes(to_bytes({"g": group, "g2": {"w": np.ones(1)}}, {}))
    assert identical(TensorFile(path).read("g"), group)


def test_keys_are_those_the_module_describes() -> None:
    values = {"conv.weight": sparse(1000, {4: 1.0}), "conv.bias": np.ones(3, "float32")}
    stored = load(to_bytes({"clients/3": values}, {}))
    assert set(stored) == {
        "clients/3/gaps/conv.weight",
        "clients/3/values/conv.weight",
        "clients/3/dense/conv.bias",
    }


def test_equal_content_gives_equal_files() -> None:
    groups = {"g": {str(i): np.arange(i) for i in range(20)}, "h": {"x": np.ones(2)}}
    assert to_bytes(groups, {"a": 1, "b": 2}) == to_bytes(groups, {"a": 1, "b": 2})


def test_a_group_that_is_not_there_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(to_bytes({}, {}))
    assert TensorFile(path).read("clients/9") == {}


@pytest.mark.parametrize("dtype", ["complex128", "U3", "object", "datetime64[s]"])
def test_a_dtype_that_cannot_be_stored_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(TypeError, match=r"array 'x' of global: safetensors holds no array of"):
        to_bytes({"global": {"x": np.zeros(2, dtype)}}, {})


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0003.safetensors"
    path.write_bytes(to_bytes({"g": {"x": np.ones(500)}}, {})[:-100])
    with pytest.raises(ValueError, match="it cannot be opened"):
        TensorFile(path)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.ones(3)}, tmp_path / "other")
    with pytest.raises(ValueError, match="no file of ours"):
        TensorFile(tmp_path / "other")
