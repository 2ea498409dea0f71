"""What ``verify`` remarks on, and what a run's writer refuses to go on beside."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from damage import DAMAGE, N, change_json, lines_of, put_lines, write_run
from record_examples import a_round, forked

from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.records.runs.verification import verify_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def contents(path: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize(
    "name", [name for name in DAMAGE if "evaluation" in name or "partition" in name]
)
def test_nobody_goes_on_beside_a_damaged_file_and_nothing_of_it_is_set_aside(
    name: str, run: Path
) -> None:
    damage, words = DAMAGE[name]
    damage(run)
    before = contents(run)

    with pytest.raises(RunError, match=words):
        RunStore.open(run)

    assert contents(run) == before


def test_a_broken_line_does_not_hide_a_broken_partition(run: Path) -> None:
    change_json(run / "rounds.jsonl", lambda line: line.update(seconds={}), line=2)
    change_json(run / "partition.json", lambda content: content["counts"].reverse())

    words = [finding.words for finding in verify_run(run) if finding.damage]

    assert len(words) == 2
    assert "rounds.jsonl, line 3 (round 2) is damaged" in words[0]
    assert "partition.json is damaged" in words[1]


def test_every_round_whose_arrays_are_gone_is_named_once(run: Path) -> None:
    shutil.rmtree(run / "rounds")

    words = [finding.words for finding in verify_run(run)]

    assert [f"000{number}.safetensors is missing" in words[number] for number in range(N)] == [
        True
    ] * N
    assert len(words) == N


@pytest.mark.parametrize("said", [None, "1 0 0 0"])
def test_a_note_that_fell_behind_is_remarked_and_put_right(said: str | None, run: Path) -> None:
    right = (run / "recorded").read_text()
    (run / "recorded").unlink()
    if said is not None:
        (run / "recorded").write_text(said)

    (note,) = verify_run(run)
    RunStore.open(run).close()

    assert not note.damage
    assert f"speaks of {0 if said is None else 1} lines of rounds.jsonl, there are 4" in note.words
    assert (run / "recorded").read_text() == right
    put_lines(run, lines_of(run)[:-1])
    with pytest.raises(RunError, match="has 3 whole lines, 4 were recorded"):
        Run.load(run)


def test_what_a_killed_writer_leaves_is_remarked(run: Path) -> None:
    with (run / "evaluations.jsonl").open("ab") as file:
        file.write(b'{"round":3,"met')
    shutil.copy(run / "rounds/0001.safetensors", run / "evidence/0004-1.safetensors")

    words = {finding.words.rsplit("/", 1)[1] for finding in verify_run(run) if not finding.damage}

    assert words == {
        "evaluations.jsonl ends in a line that was cut off; it is set aside when the run goes on",
        "0004-1.safetensors has no .json: its writer is at work, or was stopped before it wrote "
        "one",
    }
    assert not any(finding.damage for finding in verify_run(run))


def _write_on(path: Path) -> None:
    with RunStore.open(path) as store:
        for number in range(N, N + 40):
            store.append(a_round(number))
            store.add_evaluation(number, {"accuracy": 0.5})


def test_a_run_that_is_being_written_is_not_called_damaged(run: Path) -> None:
    writer, found = forked(lambda: _write_on(run)), set()
    while (ended := os.waitpid(writer, os.WNOHANG)) == (0, 0):
        found |= set(verify_run(run))

    assert ended == (writer, 0)
    assert not any(finding.damage for finding in found), found
    assert not any("belongs to no round" in finding.words for finding in found), found
    assert verify_run(run) == ()
