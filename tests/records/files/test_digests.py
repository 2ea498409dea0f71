"""No change on disk passes unseen: it is named, with its file and round."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from damage import DAMAGE, N, change_json, lines_of, put_lines, swap_arrays, write_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_examples import a_round, identical

from fedcircuit.records.files import digests as integrity
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.records.runs.verification import as_text, verify_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def everything(path: Path) -> list[object]:
    """All that can be read of a run."""
    run = Run.load(path)
    records = [run.record(number) for number in (0, *run.rounds)]
    return [
        *records,
        dict(run.manifest),
        run.partition,
        run.evaluations.to_dict(),
        list(run.evidence.error),
    ]


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_with_its_file_and_round(name: str, copy: Path) -> None:
    damage, words = DAMAGE[name]
    damage(copy)

    with pytest.raises(RunError, match=words) as raised:
        everything(copy)

    assert len(str(raised.value)) < 1000
    found = [finding for finding in verify_run(copy) if finding.damage]
    assert any(finding.words == str(raised.value) for finding in found)


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_flipped_bit_gives_other_content(
    data: st.DataObject, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "flipped"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole, path)
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.name != ".lock")
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)

    read: object = None
    with contextlib.suppress(RunError):
        read = everything(path)

    if read is None:  # such as a space between two values is no damage
        found = " ".join(one.words for one in verify_run(path) if one.damage)
        assert file.name in found or "rounds.jsonl" in found
    else:
        assert identical(read, everything(whole))


def test_a_whole_run_is_whole(whole: Path) -> None:
    assert verify_run(whole) == ()
    assert as_text((), whole) == f"{whole} is whole"


def test_a_process_killed_between_arrays_and_line_leaves_no_damage(copy: Path) -> None:
    shutil.copy(copy / "rounds/0003.safetensors", copy / "rounds/0004.safetensors")

    (note,) = verify_run(copy)

    assert not note.damage
    assert "0004.safetensors (round 4) has no line yet" in note.words
    with RunStore.open(copy) as store:
        store.append(a_round(4))
    assert verify_run(copy) == ()


def test_a_process_killed_before_it_noted_its_line_loses_nothing(copy: Path) -> None:
    (copy / "recorded").write_text(f"{N - 1} 2 1 1\n")

    assert Run.load(copy).rounds == (1, 2, 3)
    assert verify_run(copy) == ()


def test_what_lies_around_is_remarked(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    (copy / "rounds" / "x.bin").write_bytes(b"1")

    words = [finding.words for finding in verify_run(copy)]

    assert [word.rsplit("/", 1)[1] for word in words] == [
        "x.bin belongs to no round",
        "notes.txt is no part of a run",
    ]


def old_version(path: Path) -> None:
    """The run as it was written before there were digests."""
    for name in ("manifest.json", "partition.json"):
        change_json(path / name, lambda content: content.pop("digest"))
    for name in ("rounds.jsonl", "evaluations.jsonl"):
        lines = [json.loads(line) for line in (path / name).read_bytes().splitlines()]
        for line in lines:
            del line["line"]
            line.pop("arrays", None)
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        (path / name).write_text(text)
    change_json(
        path / f"evidence/000{N}-0.json",
        lambda content: [content.pop(k) for k in ("digest", "arrays")],
    )
    (path / "recorded").unlink()


def test_a_run_of_an_earlier_version_is_read_and_continued_and_says_so(
    copy: Path, whole: Path
) -> None:
    old_version(copy)

    assert identical(everything(copy)[:-2], everything(whole)[:-2])
    assert everything(copy)[-2:] == everything(whole)[-2:]
    (note,) = verify_run(copy)
    assert not note.damage
    assert "4 of 4 rounds were recorded by an earlier version" in note.words
    with RunStore.open(copy) as store:
        store.append(a_round(N))
    assert Run.load(copy).n_unsealed == N
    swap_arrays(copy)  # without a digest, a file that can be read passes
    assert [one.damage for one in verify_run(copy)] == [False]
    put_lines(copy, [lines_of(copy)[0].replace(b'"round":0', b'"round": 0'), *lines_of(copy)[1:]])
    with pytest.raises(RunError, match=r"line 5 \(round 4\) is damaged"):
        Run.load(copy)


@pytest.mark.parametrize("schema", [True, 1.0, "1", 0, -1, None, [1], 10**30])
def test_a_schema_is_a_whole_number_from_one_on(schema: object, copy: Path) -> None:
    change_json(copy / "manifest.json", lambda content: content.update(schema=schema))
    with pytest.raises(RunError, match="schema|newer") as raised:
        Run.load(copy)
    assert len(str(raised.value)) < 1000


def test_nothing_goes_on_from_damaged_weights(copy: Path) -> None:
    path = copy / "rounds" / f"000{N - 1}.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x20
    path.write_bytes(content)
    with RunStore.open(copy) as store, pytest.raises(RunError, match=r"round 3\) is damaged"):
        store.last()


def test_a_digest_is_128_bits_of_blake2b() -> None:
    known = urlsafe_b64encode(hashlib.blake2b(b"abc", digest_size=16).digest()).decode()

    assert integrity.digest(b"a", b"bc") + "==" == known
    assert len(integrity.digest(b"")) == integrity.LENGTH
