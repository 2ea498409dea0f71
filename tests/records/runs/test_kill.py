"""Processes killed while they record, and disks that fill up: no complete round is ever lost."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from record_examples import a_round, files_of, forked, identical

from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.rounds.round_record import RoundRecord
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore

SCRIPT = Path(__file__).parents[3] / "experiments" / "benchmarks" / "kill_test.py"
STEPS = ("open", "write", "fsync", "replace", "close", "ftruncate")


def kill_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_test_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_kills_at_random_moments_lose_no_complete_round(tmp_path: Path) -> None:
    tally = kill_script().kill_many(tmp_path, kills=25, seed=1, runs_of=5)
    assert tally.lost == 0
    assert tally.resumed == tally.kills == 25
    assert tally.reported > 0  # else nothing was put to the test


def dying_at(step: int, *, half: bool, before: bool) -> None:
    """Make the process end at its n-th call to the disk, before it, after it or half through."""
    left = [step]

    def patched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if half and name == "write":
                    call(args[0], bytes(args[1])[: len(args[1]) // 2])
                elif not before:
                    call(*args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted

    for name in STEPS:
        setattr(os, name, patched(name, getattr(os, name)))


@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_killed_at_any_step_a_round_is_there_whole_or_recorded_again(
    tmp_path: Path, how: str
) -> None:
    outcomes = []
    for step in range(1, 40):
        path = tmp_path / str(step)
        with RunStore.create(path, {}) as store:
            store.append(a_round(0))

        def append(path: Path = path, step: int = step) -> None:
            store = RunStore.open(path)
            dying_at(step, half=how == "half", before=how == "before")
            store.append(a_round(1))

        _, status = os.waitpid(forked(append), 0)
        read_meanwhile = Run.load(path)  # a report that is made at this moment changes nothing
        assert read_meanwhile.refresh().rounds == read_meanwhile.rounds
        with RunStore.open(path) as store:
            assert not list(path.rglob("*.tmp"))
            outcomes.append(store.rounds())
            if store.rounds() == (0,):
                store.append(a_round(1))
            store.append(a_round(2))
            assert identical(list(store), [a_round(0), a_round(1), a_round(2)])
        if status == 0:
            break
    assert status == 0, "append has more steps than were tried"
    n_lost = outcomes.count((0,))
    assert outcomes == [(0,)] * n_lost + [(0, 1)] * (len(outcomes) - n_lost)
    assert n_lost >= 8  # file, its name and the line: each step of them was cut off
    assert outcomes[-2] == (0, 1)  # and so were steps after the line was complete


def test_half_a_line_is_kept_aside(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run", {}) as store:
        store.append(a_round(0))
        store.append(a_round(1))
    lines = tmp_path / "run" / "rounds.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole[:-20])
    (tmp_path / "run" / "recorded").write_text("1 0\n")  # noted after the line is whole
    assert Run.load(tmp_path / "run").rounds == ()
    assert lines.read_bytes() == whole[:-20]  # who reads changes nothing
    with RunStore.open(tmp_path / "run") as store:
        assert store.rounds() == (0,)
        store.append(a_round(1))
        assert identical(list(store), [a_round(0), a_round(1)])
    torn = (tmp_path / "run" / "rounds.jsonl.torn-0").read_bytes()
    assert torn == whole.splitlines(keepends=True)[1][:-20]


def test_arrays_are_on_the_disk_under_their_name_before_the_line_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore.create(tmp_path / "run", {})
    store.append(a_round(0))
    events: list[tuple[str, str]] = []
    opened: dict[int, str] = {}
    os_open = os.open

    def named(path: Path, *rest: Any) -> int:
        descriptor = os_open(path, *rest)
        opened[descriptor] = Path(path).name
        return descriptor

    def traced(name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def wrapper(first: Any, *rest: Any) -> Any:
            events.append((name, opened[first] if isinstance(first, int) else first.name))
            return call(first, *rest)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", named)
        for name in ("write", "fsync", "replace"):
            patch.setattr(os, name, traced(name))
        store.append(a_round(1))
    assert events == [
        ("write", ".0001.safetensors.tmp"),
        ("fsync", ".0001.safetensors.tmp"),
        ("replace", ".0001.safetensors.tmp"),
        ("fsync", "rounds"),
        ("write", "rounds.jsonl"),
        ("fsync", "rounds.jsonl"),
        ("write", ".recorded.tmp"),  # last: it says that the line is whole
        ("fsync", ".recorded.tmp"),
        ("replace", ".recorded.tmp"),
        ("fsync", "run"),
    ]


def append_with_files_up_to(path: Path, limit: int, record: RoundRecord, told: Path) -> None:
    """Append where the system refuses to let any file grow above a limit; tell the error."""
    store = RunStore.open(path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        store.append(record)
    except RunError as error:
        told.write_text(str(error))
    assert store.rounds() == (0,)
    assert not (path / "rounds" / "0001.safetensors").exists()  # its space is given back
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    store.append(a_round(1))  # there is space again: the same store goes on


@pytest.mark.parametrize("where", ["arrays", "line"])
def test_a_disk_that_takes_no_more_leaves_all_rounds_and_says_how_to_go_on(
    tmp_path: Path, where: str
) -> None:
    path, told = tmp_path / "run", tmp_path / "told"
    with RunStore.create(path, {}) as store:
        store.append(a_round(0))
    before = files_of(path)
    if where == "arrays":
        record, limit = a_round(1, scale=40), 50_000
    else:
        record = replace(a_round(1), weights={}, clients=(), state={}, metrics={"x" * 9000: 1.0})
        limit = len(before["rounds.jsonl"]) + 5000
    child = forked(lambda: append_with_files_up_to(path, limit, record, told))
    assert os.waitpid(child, 0)[1] == 0
    words = told.read_text()
    assert words.startswith(f"{path}: round 1 was not recorded: File too large")
    assert "MiB are free" in words
    assert f"go on with 'fedcircuit resume {path}'" in words
    with RunStore.open(path) as store:
        assert identical(list(store), [a_round(0), a_round(1)])
    after = files_of(path)
    assert set(after) == {*before, "rounds/0001.safetensors"}  # nothing half done is left
    assert after["rounds.jsonl"].startswith(before["rounds.jsonl"])


def test_a_full_disk_is_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore.create(tmp_path / "run", {})

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(RunError, match="round 0 was not recorded: the disk is full"):
            store.append(a_round(0))
        with pytest.raises(RunError, match="evidence of round 0 was not recorded"):
            store.add_evidence(a_round(0), "x")
    assert store.rounds() == ()
    assert list((tmp_path / "run" / "rounds").iterdir()) == []


def test_a_line_that_cannot_be_taken_back_keeps_its_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore.create(tmp_path / "run", {})
    store.append(a_round(0))
    os_fsync, synced = os.fsync, []

    def refuse_the_line(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:  # after the arrays and their folder
            raise OSError(5, "Input/output error")
        os_fsync(descriptor)

    def refuse(descriptor: int, size: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse_the_line)
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(RunError, match="round 1 was not recorded: Input/output error"):
            store.append(a_round(1))
    store.close()
    with RunStore.open(tmp_path / "run") as again:  # the line is there, so all of it must be
        assert identical(list(again), [a_round(0), a_round(1)])
