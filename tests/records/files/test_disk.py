"""Files that are whole or not there, lines that are complete or set aside."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit.records.files.disk import (
    append_line,
    complete_lines,
    cut_torn_line,
    remove_leftovers,
    write_whole,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_replaces_an_older_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old and long")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["file"]


def test_a_file_that_cannot_be_written_leaves_the_older_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_line_that_cannot_be_written_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines"
    append_line(path, b"1\n")
    write = os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) < 6:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:5])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            append_line(path, b"123456789\n")
    assert path.read_bytes() == b"1\n"


def test_a_write_that_takes_less_than_given_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        write_whole(tmp_path / "file", b"0123456789")
        append_line(tmp_path / "lines", b"0123456789\n")
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert (tmp_path / "lines").read_bytes() == b"0123456789\n"


@pytest.mark.parametrize(
    "torn", [b'{"round": 2, "metr', b"\0\0\0\0\n", b'{"round": 2\n', b"\0" * 9, b'{"a": 1}']
)
def test_a_torn_end_is_not_a_line_and_is_set_aside(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "rounds.jsonl"
    whole = b'{"round": 0}\n{"round": 1}\n'
    path.write_bytes(whole + torn)
    assert complete_lines(path) == [b'{"round": 0}\n', b'{"round": 1}\n']
    (tmp_path / "rounds.jsonl.torn-0").write_bytes(b"of an earlier time")
    aside = cut_torn_line(path, len(whole))
    assert aside == tmp_path / "rounds.jsonl.torn-1"
    assert aside.read_bytes() == torn
    assert path.read_bytes() == whole
    assert cut_torn_line(path, len(whole)) is None


@given(st.lists(st.integers(0, 10**6), max_size=5), st.data())
def test_cut_anywhere_only_the_line_that_was_cut_is_missing(
    numbers: list[int], data: st.DataObject
) -> None:
    whole = b"".join(b"[%d]\n" % number for number in numbers)
    cut = data.draw(st.integers(0, len(whole)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        path.write_bytes(whole[:cut])
        n_complete = whole[:cut].count(b"\n")
        assert complete_lines(path) == whole.splitlines(keepends=True)[:n_complete]


def test_lines_are_read_from_a_place_on(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"[1]\n[22]\n[3]\n")
    assert complete_lines(path, 4) == [b"[22]\n", b"[3]\n"]
    assert complete_lines(path, 13) == []
    assert complete_lines(tmp_path / "missing") == []


def test_unfinished_files_are_deleted_and_others_are_not(tmp_path: Path) -> None:
    for name in (".0001.safetensors.tmp", "notes.tmp", ".hidden", "0001.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == [".hidden", "0001.safetensors", "notes.tmp"]
    remove_leftovers(tmp_path / "missing")
