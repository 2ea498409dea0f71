"""A run folder: what goes in comes out, nothing is overwritten, everything else is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from record_examples import a_round, files_of, forked, identical, records

from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.rounds.client_weights import Storage
from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.rounds.round_record import ClientRecord, Observation, RoundRecord, Table
from fedcircuit.records.runs.store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "run", {"name": "run"})


@given(records())
@settings(max_examples=60)
def test_a_record_comes_back_bit_for_bit_whatever_its_names(record: RoundRecord) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with RunStore.create(Path(folder) / "run", {}) as store:
            store.append(record)
        assert identical(RunStore.open(Path(folder) / "run").read(0), record)


def test_clients_with_slashes_in_their_names_are_kept_apart(store: RunStore) -> None:
    names = ("a", "a/dense", "a%2Fdense", "", "/")
    clients = tuple(
        ClientRecord(name, 1, {"x": np.array(i), "dense/x": np.array(-i), "/x": np.array(9 + i)})
        for i, name in enumerate(names)
    )
    store.append(RoundRecord(0, {}, clients))
    assert identical(store.read(0).clients, clients)


def test_rounds_come_back_in_order_and_the_last_one_carries_the_state(store: RunStore) -> None:
    assert store.last() is None
    for number in range(12):
        store.append(a_round(number))
    assert store.rounds() == tuple(range(12))
    assert identical(list(store), [a_round(number) for number in range(12)])
    last = store.last()
    assert last is not None
    assert last.round == 11
    assert list(last.state) == ["m:10", "m:9"]  # the order of the strategy, not of the alphabet


def test_a_run_that_is_opened_again_goes_on_as_if_never_closed(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "one", {}) as one:
        for number in range(3):
            one.append(a_round(number))
    for number in range(3):
        with (RunStore.create if number == 0 else RunStore.open)(
            tmp_path / "parts", *([{}] if number == 0 else [])
        ) as part:
            part.append(a_round(number))
    assert files_of(tmp_path / "one") == files_of(tmp_path / "parts")


@pytest.mark.parametrize(("number", "words"), [(1, "recorded already"), (3, "next is round 2")])
def test_a_round_is_neither_overwritten_nor_left_out(
    store: RunStore, number: int, words: str
) -> None:
    store.append(a_round(0))
    store.append(a_round(1))
    before = files_of(store.path)
    with pytest.raises(RunError, match=words):
        store.append(a_round(number, seed=9))
    assert files_of(store.path) == before


@pytest.mark.parametrize("number", [-1, 2])
def test_a_round_that_is_not_there_is_refused(store: RunStore, number: int) -> None:
    store.append(a_round(0))
    store.append(a_round(1))
    with pytest.raises(RunError, match=f"no round {number}; it has rounds 0 to 1"):
        store.read(number)


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path, store: RunStore) -> None:
    store.append(a_round(0))
    before = files_of(store.path)
    with pytest.raises(RunError, match=r"exists already.*--out.*fedcircuit resume"):
        RunStore.create(store.path, {})
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="exists already"):
        RunStore.create(tmp_path / "thesis", {})
    with pytest.raises(RunError, match="is a file"):
        RunStore.create(tmp_path / "thesis" / "thesis.tex", {})
    assert files_of(store.path) == before


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert RunStore.create(tmp_path, {}).rounds() == ()


def test_a_folder_that_is_no_run_is_refused_with_runs_near_by(store: RunStore) -> None:
    with pytest.raises(RunError, match=r"no manifest\.json; did you mean .*/run\?"):
        RunStore.open(store.path.parent)
    with pytest.raises(RunError, match="there is no such folder"):
        RunStore.open(store.path / "missing")


def test_a_newer_schema_is_refused(store: RunStore) -> None:
    manifest = json.loads((store.path / "manifest.json").read_text())
    (store.path / "manifest.json").write_text(json.dumps({**manifest, "schema": 2}))
    with pytest.raises(RunError, match=r"newer fedcircuit \(schema 2.*upgrade"):
        RunStore.open(store.path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": "1"}'])
def test_a_damaged_manifest_is_refused(store: RunStore, text: str) -> None:
    (store.path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match=r"manifest\.json is "):
        RunStore.open(store.path)


def test_lines_changed_by_hand_are_refused_with_their_number(store: RunStore) -> None:
    for number in range(3):
        store.append(a_round(number))
    lines = (store.path / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (store.path / "rounds.jsonl").write_bytes(lines[0] + lines[2])
    with pytest.raises(RunError, match=r"line 2 \(round 1\): expected round 1"):
        RunStore.open(store.path)


@pytest.mark.parametrize("how", ["cut", "missing"])
def test_a_damaged_round_file_is_refused_and_others_are_read(store: RunStore, how: str) -> None:
    store.append(a_round(0))
    store.append(a_round(1))
    path = store.path / "rounds" / "0001.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    if how == "missing":
        path.unlink()
    with pytest.raises(RunError, match=r"0001\.safetensors( \(round 1\))? is (damaged|missing)"):
        store.read(1)
    assert identical(store.read(0), a_round(0))


def test_policy_and_manifest_are_kept_and_must_agree(tmp_path: Path) -> None:
    none = Storage("none")
    manifest = build_manifest("x", seed=0, class_names=["a"], storage=none)
    assert RunStore.create(tmp_path / "a", manifest).storage == none
    assert RunStore.create(tmp_path / "b", {}, none).manifest["storage"]["updates"] == "none"
    assert RunStore.create(tmp_path / "c", {}).storage == Storage()
    with pytest.raises(ValueError, match="give one of them"):
        RunStore.create(tmp_path / "d", manifest, Storage())
    assert not (tmp_path / "d").exists()


def test_without_client_weights_everything_else_is_kept(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {}, Storage("none"))
    store.append(a_round(0))
    record = a_round(0)
    expected = replace(
        record, clients=tuple(replace(client, weights={}) for client in record.clients)
    )
    assert identical(store.read(0), expected)


def test_differences_are_to_the_global_weights_of_the_round_before(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {}, Storage("delta-fp16"))
    full = RunStore.create(tmp_path / "full", {})
    rng = np.random.default_rng(0)
    sent = {"w": rng.standard_normal(4000).astype(np.float32)}
    trained = {"w": sent["w"] + rng.standard_normal(4000).astype(np.float32) / 100}
    average = {"w": sent["w"] * 50}
    client = replace(a_round(1).clients[0], weights=trained)
    for one in (store, full):
        one.append(RoundRecord(0, sent))
        one.append(RoundRecord(1, average, (client,)))
    back = RunStore.open(store.path).read(1)
    assert identical(back.weights, average)
    kept = back.clients[0].weights["w"]
    assert kept.dtype == np.float32
    assert 0 < np.abs(kept - trained["w"]).max() < 5e-5
    sizes = [(one.path / "rounds" / "0001.safetensors").stat().st_size for one in (store, full)]
    assert sizes[0] < 0.77 * sizes[1]  # 4 + 2 bytes against 4 + 4


@pytest.mark.parametrize(("scores", "kept"), [(True, {"scores", "masks"}), (False, {"masks"})])
def test_scores_are_kept_only_when_asked_for(tmp_path: Path, scores: bool, kept: set[str]) -> None:
    store = RunStore.create(tmp_path / "run", {}, Storage(scores=scores))
    seen = Observation(arrays={"scores": np.ones(3, np.float16), "masks": np.ones(3, np.uint8)})
    store.append(RoundRecord(0, {}, observations={"circuits": seen}))
    assert set(store.read(0).observations["circuits"].arrays) == kept


@pytest.mark.parametrize(
    ("record", "error", "words"),
    [
        (replace(a_round(0), clients=a_round(0).clients[:1] * 2), ValueError, "two clients '0'"),
        (RoundRecord(0, {"w": np.zeros(2, complex)}), TypeError, "array 'w' of global"),
        (RoundRecord(0, {}, metrics={"f1": {}}), TypeError, "metric 'f1': expected a number"),  # type: ignore[dict-item]
        (
            RoundRecord(0, {}, observations={"o": Observation({"t": Table(("a",), (((),),))})}),
            TypeError,
            "column 'a'",
        ),
    ],
)
def test_a_record_that_cannot_be_written_is_refused_before_anything_is(
    store: RunStore, record: RoundRecord, error: type[Exception], words: str
) -> None:
    before = files_of(store.path)
    with pytest.raises(error, match=words):
        store.append(record)
    assert files_of(store.path) == before
    store.append(a_round(0))


def test_another_process_cannot_write_the_run_and_is_told_who_does(store: RunStore) -> None:
    store.append(a_round(0))
    code = (
        "import sys; from fedcircuit.records.runs.store import RunStore, RunError\n"
        "for _ in sys.stdin:\n"
        "    try: RunStore.open(sys.argv[1])\n"
        "    except RunError as error: print(error, flush=True)\n"
        "    else: print('opened', flush=True)"
    )
    command = [sys.executable, "-c", code, str(store.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:

        def other() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            return process.stdout.readline()

        assert f"is being written by another process (process {os.getpid()} on" in other()
        store.close()
        assert other() == "opened\n"
        process.communicate()
    assert process.returncode == 0


def test_stores_of_one_process_share_the_lock_and_see_each_others_rounds(store: RunStore) -> None:
    second = RunStore.open(store.path)
    second.append(a_round(0))
    store.append(a_round(1))
    second.close()
    store.append(a_round(2))
    with pytest.raises(RunError, match="recorded already"):
        store.append(a_round(1))
    with pytest.raises(RunError, match="is closed; open it again"):
        second.append(a_round(3))
    assert identical(RunStore.open(store.path).read(1), a_round(1))


def test_a_store_that_nobody_holds_frees_the_run(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "run", {}).append(a_round(0))
    child = forked(lambda: RunStore.open(tmp_path / "run").append(a_round(1)))
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("path", ["/dev/null/x", "/proc/fedcircuit"])
def test_a_folder_that_cannot_be_made_is_said_to_be_that(path: str) -> None:
    manifest = {"name": "x", "class_names": [], "seed": 0}
    with pytest.raises(RunError, match=r"the folder cannot be made \(.+\)\. Give another one"):
        RunStore.create(path, manifest)
