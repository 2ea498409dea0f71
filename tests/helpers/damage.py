"""A whole run, and one line for every kind of damage that can be done to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from record_examples import a_round

from fedcircuit.records.runs.store import RunStore

N = 4  # rounds, round 0 included


def write_run(path: Path, seed: int = 0) -> Path:
    with RunStore.create(path, {"name": "x", "seed": seed}) as store:
        store.write_partition({"counts": [[1, 2], [3, 4]]})
        for number in range(N):
            store.append(a_round(number, seed=seed))
        store.add_evaluation(1, {"accuracy": 0.5})
        store.add_evaluation(2, {"accuracy": 0.75})
        store.add_evidence(a_round(N), "division by zero")
    return path


def lines_of(path: Path) -> list[bytes]:
    return (path / "rounds.jsonl").read_bytes().splitlines(keepends=True)


def put_lines(path: Path, lines: list[bytes]) -> None:
    (path / "rounds.jsonl").write_bytes(b"".join(lines))


def change_json(path: Path, change: Callable[[dict], None], line: int | None = None) -> None:
    text = path.read_bytes()
    if line is None:
        content = json.loads(text)
        change(content)
        path.write_text(json.dumps(content))
        return
    lines = text.splitlines()
    content = json.loads(lines[line])
    change(content)
    lines[line] = json.dumps(content, separators=(",", ":")).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")


def swap_arrays(path: Path) -> None:
    one, other = (path / f"rounds/{number:04d}.safetensors" for number in (1, 2))
    shutil.copy(other, one)


def of_another_run(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        other = write_run(path.parent / "other", seed=1)
        shutil.copy(other / name, path / name)

    return change


def arrays_as_folder(path: Path) -> None:
    file = path / "rounds/0001.safetensors"
    file.unlink()
    file.mkdir()


def evaluations_as_folder(path: Path) -> None:
    file = path / "evaluations.jsonl"
    file.unlink()
    file.mkdir()


def line_of_another_run(path: Path) -> None:
    lines, others = lines_of(path), lines_of(write_run(path.parent / "other", seed=1))
    put_lines(path, [*lines[:2], others[2], lines[3]])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "arrays of another round": (swap_arrays, r"0001\.safetensors \(round 1\)"),
    "arrays of another run": (
        of_another_run("rounds/0002.safetensors"), r"0002\.safetensors \(round 2\)",
    ),
    "arrays deleted": (lambda p: (p / "rounds/0003.safetensors").unlink(), "0003.safetensors is"),
    "arrays are a folder": (
        arrays_as_folder,
        r"0001\.safetensors, round 1 cannot be read: Is a directory",
    ),
    "a line changed": (
        lambda p: change_json(p / "rounds.jsonl", lambda x: x["metrics"].update(accuracy=0.9), 2),
        r"rounds\.jsonl, line 3 \(round 2\)",
    ),
    "a line's digest removed": (
        lambda p: change_json(p / "rounds.jsonl", lambda x: x.pop("line"), 3),
        r"rounds\.jsonl, line 4 \(round 3\)",
    ),
    "a line of another run": (
        line_of_another_run,
        r"rounds\.jsonl, line 3 \(round 2\)",
    ),
    "a line doubled": (
        lambda p: put_lines(p, [*lines_of(p)[:2], *lines_of(p)[1:]]),
        r"rounds\.jsonl, line 3 \(round 2\): expected round 2",
    ),
    "the last line gone": (lambda p: put_lines(p, lines_of(p)[:-1]), "has 3 whole lines, 4 were"),
    "the last line cut": (
        lambda p: (p / "rounds.jsonl").write_bytes(b"".join(lines_of(p))[:-9]),
        r"line 4 \(round 3\) is damaged, or the file was cut",
    ),
    "two lines gone, as before digests": (
        lambda p: [put_lines(p, lines_of(p)[:-2]), (p / "recorded").unlink()],
        r"arrays of round 3 \(0003\.safetensors\): it was cut",
    ),
    "all lines gone": (lambda p: (p / "rounds.jsonl").unlink(), "has 0 whole lines, 4 were"),
    "nested without end": (
        lambda p: put_lines(p, [*lines_of(p)[:3], b"[" * 200_000 + b"]" * 200_000 + b"\n"]),
        r"rounds\.jsonl",
    ),
    "the seed of the manifest": (
        lambda p: change_json(p / "manifest.json", lambda x: x.update(seed=7)), r"manifest\.json",
    ),
    "the manifest's digest removed": (
        lambda p: change_json(p / "manifest.json", lambda x: x.pop("digest")),
        r"rounds\.jsonl, line 1 \(round 0\)",
    ),
    "the manifest of another run": (of_another_run("manifest.json"), r"rounds\.jsonl, line 1"),
    "the manifest nested without end": (
        lambda p: (p / "manifest.json").write_bytes(b"[" * 200_000 + b"]" * 200_000),
        r"manifest\.json is damaged: RecursionError",
    ),
    "a count of the partition": (
        lambda p: change_json(p / "partition.json", lambda x: x["counts"][0].reverse()),
        r"partition\.json is damaged",
    ),
    "the partition of another run": (
        of_another_run("partition.json"), r"partition\.json is damaged",
    ),
    "the partition deleted": (
        lambda p: (p / "partition.json").unlink(), r"partition\.json is missing",
    ),
    "a failed round deleted": (
        lambda p: (p / f"evidence/000{N}-0.json").unlink(), "has 0 failed rounds, 1 were recorded",
    ),
    "rounds in place of evaluations": (
        lambda p: shutil.copy(p / "rounds.jsonl", p / "evaluations.jsonl"),
        r"evaluations\.jsonl, line 1 is damaged",
    ),
    "a failed round in place of the partition": (
        lambda p: shutil.copy(p / f"evidence/000{N}-0.json", p / "partition.json"),
        r"partition\.json is damaged",
    ),
    "an evaluation": (
        lambda p: change_json(p / "evaluations.jsonl", lambda x: x.update(round=2), 0),
        r"evaluations\.jsonl, line 1 is damaged",
    ),
    "the last evaluation gone": (
        lambda p: (p / "evaluations.jsonl").write_bytes(
            (p / "evaluations.jsonl").read_bytes().splitlines(keepends=True)[0]
        ),
        r"evaluations\.jsonl has 1 whole lines, 2 were recorded",
    ),
    "the words of a failed round": (
        lambda p: change_json(p / f"evidence/000{N}-0.json", lambda x: x.update(error="none")),
        rf"000{N}-0\.json is damaged",
    ),
    "the arrays of a failed round": (
        lambda p: shutil.copy(p / "rounds/0001.safetensors", p / f"evidence/000{N}-0.safetensors"),
        rf"000{N}-0\.safetensors is damaged",
    ),
    "the last evaluation is no JSON": (
        lambda p: (p / "evaluations.jsonl").write_bytes(
            (p / "evaluations.jsonl").read_bytes()[:-2] + b"x\n"
        ),
        r"evaluations\.jsonl has 1 whole lines, 2 were recorded",
    ),
    "evaluations nested without end": (
        lambda p: (p / "evaluations.jsonl").write_bytes(b"[" * 200_000 + b"]" * 200_000 + b"\n"),
        r"evaluations\.jsonl has 0 whole lines, 2 were recorded",
    ),
    "evaluations are a folder": (
        evaluations_as_folder, r"evaluations\.jsonl cannot be read: Is a directory",
    ),
    "all arrays gone": (lambda p: shutil.rmtree(p / "rounds"), r"0000\.safetensors is missing"),
    "a failed round under another name": (
        lambda p: [
            file.rename(file.with_stem("0007-0")) for file in (p / "evidence").iterdir()
        ],
        r"0007-0\.json is damaged",
    ),
    "the number of lines below zero": (
        lambda p: (p / "recorded").write_text("-4 2 1 1"), r"recorded is damaged: ValueError",
    ),
    "the number of lines": (lambda p: (p / "recorded").write_text("many"), "recorded is damaged"),
}  # fmt: skip
