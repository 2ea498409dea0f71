"""Run folders damaged on purpose: nothing may pass unseen, and nothing may end in a traceback.

    python experiments/reliability/corruption.py [--tries 400] [--seed 0] [--run RUN] [--unsealed]

Each try copies a run (left out: a small one on digits, made first) and damages one file of it. Then
everything is read, reported on and resumed through the real command line. A try passes if what was
read is the same, or an error names the file. Exit code 1 if one does not.

With --unsealed the digests are taken out first, as in a run of an earlier version: other content
may pass then, but nothing may end in a traceback.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from fedcircuit import Run
from fedcircuit.app.commands import cli
from fedcircuit.app.config import parse_study
from fedcircuit.app.study import run_study
from fedcircuit.records.files import RunError
from fedcircuit.records.runs import RunStore

STUDY = {
    "name": "corruption",
    "partition": {"kind": "iid", "clients": 3},
    "model": {"name": "mlp", "widths": [24, 16]},
    "training": {"rounds": 3, "epochs": 1, "sparsity": {"target": 0.8}},
    "circuits": {"controls": 2},
}
VALUES: tuple[Any, ...] = (None, "xx", 7, [], {}, -1, 10**30, True, 1.5)


def main() -> int:
    """Damage, look, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--unsealed", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="corruption-") as temporary:
        whole = arguments.run
        if whole is None:
            whole = small_run(Path(temporary) / "whole")
        if arguments.unsealed:
            whole = Path(shutil.copytree(whole, Path(temporary) / "unsealed"))
            unseal(whole)
        want = None if arguments.unsealed else everything(whole)
        rng, tally = random.Random(arguments.seed), Counter[str]()
        for number in range(arguments.tries):
            path = Path(temporary) / "damaged"
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(whole, path, ignore=shutil.ignore_patterns("report.html"))
            what, file = damage(path, rng)
            for outcome in look(path, file, want):
                tally[outcome] += 1
                if outcome.startswith("BAD"):
                    print(f"{outcome}: try {number}, {what}", flush=True)
    for outcome, count in sorted(tally.items()):
        print(f"{count:5}  {outcome}")
    return int(any(outcome.startswith("BAD") for outcome in tally))


def small_run(path: Path) -> Path:
    """A run that has one of every file: rounds, a partition, evaluations, a failed round."""
    run_study(parse_study(STUDY, where="corruption.py"), path)
    with RunStore.open(path) as store:
        store.add_evaluation(1, {"accuracy": 0.5})
        store.add_evaluation(2, {"accuracy": 0.75})
        store.add_evidence(store.read(2), "division by zero")
    return path


def unseal(path: Path) -> None:
    """Take out all digests: the run as an earlier version would have written it."""
    (path / "recorded").unlink()
    for file in [*path.glob("*.json*"), *path.glob("evidence/*.json")]:
        contents = [json.loads(line) for line in _texts(file)]
        for content in contents:
            for key in ("digest", "arrays", "line"):
                content.pop(key, None)
        file.write_text("".join(json.dumps(c, separators=(",", ":")) + "\n" for c in contents))


def _texts(file: Path) -> list[str]:
    """The texts of JSON that a file holds: its lines, or the whole of it."""
    text = file.read_text()
    return text.splitlines() if file.suffix == ".jsonl" else [text]


def damage(path: Path, rng: random.Random) -> tuple[str, str]:
    """Damage one file of a run: what was done, and the file's name."""
    files = [f for f in sorted(path.rglob("*")) if f.is_file() and f.name != ".lock"]
    file = rng.choice(files)
    kind = rng.choice([k for k in KINDS if k != "value" or file.suffix in (".json", ".jsonl")])
    KINDS[kind](file, rng)
    # failed rounds are counted, not listed: one that is gone is named by its folder
    gone = kind == "deleted" and file.parent.name == "evidence"
    return f"{kind} in {file.relative_to(path)}", file.parent.name if gone else file.name


def _flip(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def _zero(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    place = rng.randrange(len(content))
    content[place : place + 512] = bytes(len(content[place : place + 512]))
    file.write_bytes(content)


def _cut(file: Path, rng: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


def _swap(file: Path, rng: random.Random) -> None:
    others = [f for f in sorted(file.parent.iterdir()) if f.is_file() and f != file]
    file.write_bytes(rng.choice(others).read_bytes())


def _lines(file: Path, rng: random.Random) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    place = rng.randrange(len(lines))
    how = rng.choice(["drop", "double", "swap"])
    if how == "drop":
        lines.pop(place)
    elif how == "double":
        lines.insert(place, lines[place])
    else:
        lines[place], lines[0] = lines[0], lines[place]
    file.write_bytes(b"".join(lines))


def _value(file: Path, rng: random.Random) -> None:
    lines = _texts(file)
    place = rng.randrange(len(lines))
    content = json.loads(lines[place])
    spots: list[tuple[Any, Any]] = []

    def walk(one: Any) -> None:
        items = one.items() if isinstance(one, dict) else enumerate(one)
        for key, value in items:
            spots.append((one, key))
            if isinstance(value, (dict, list)):
                walk(value)

    walk(content)
    holder, key = rng.choice(spots)
    holder[key] = rng.choice(VALUES)
    lines[place] = json.dumps(content, separators=(",", ":"))
    file.write_text("\n".join(lines) + "\n")


KINDS: dict[str, Callable[[Path, random.Random], object]] = {
    "bit flip": _flip,
    "zeroed block": _zero,
    "cut": _cut,
    "emptied": lambda file, _: file.write_bytes(b""),
    "deleted": lambda file, _: file.unlink(),
    "another file's content": _swap,
    "lines": _lines,
    "value": _value,
    "noise": lambda file, rng: file.write_bytes(rng.randbytes(300)),
    "nested": lambda file, _: file.write_bytes(b"[" * 100_000 + b"]" * 100_000 + b"\n"),
    "appended": lambda file, rng: file.write_bytes(file.read_bytes() + rng.randbytes(9)),
}


def look(path: Path, file: str, want: str | None) -> list[str]:
    """What reading, report and resume make of a damaged run; ``want`` None: any content will do."""
    try:
        got = everything(path)
    except RunError as error:
        named = file in str(error) or "rounds.jsonl" in str(error)
        outcomes = ["read: named" if named else "BAD read: the error does not name the file"]
        if len(str(error)) > 1000:
            outcomes.append("BAD read: a long message")
    except Exception as error:  # noqa: BLE001  # that is what is looked for
        outcomes = [f"BAD read: {type(error).__name__}"]
    else:
        if got == want:
            return ["read: the same content"]
        outcomes = ["read: something" if want is None else "BAD read: other content, silently"]
    for command in (["report", str(path)], ["resume", str(path), "--rounds", "4"]):
        outcomes.append(f"{command[0]}: {called(command, file)}".replace(": BAD", ": BAD "))
    return [f"BAD {one}" if ": BAD" in one else one for one in outcomes]


def called(command: list[str], file: str) -> str:
    """How a command of the real command line ended."""
    output = io.StringIO()
    sys.argv = ["fedcircuit", *command]
    try:
        with redirect_stdout(output), redirect_stderr(output):
            cli.main()
    except SystemExit as end:
        named = file in output.getvalue() or "rounds.jsonl" in output.getvalue()
        return ("refused, named" if named else "BAD unnamed") if end.code else "done"
    except BaseException as error:  # noqa: BLE001  # a traceback, for a person
        return f"BAD {type(error).__name__}"
    return "done"


def everything(path: Path) -> str:
    """All that can be read of a run, as text."""
    run = Run.load(path)
    parts: list[object] = [run.manifest, run.partition, run.evaluations.to_dict()]
    parts += [(row.round, row.error) for row in run.evidence.itertuples()]
    for number in (0, *run.rounds):
        record = run.record(number)
        groups = [record.weights, record.state, *(c.weights for c in record.clients)]
        groups += [one.arrays for one in record.observations.values()]
        parts += [(name, v.tobytes()) for group in groups for name, v in group.items()]
        parts += [record.metrics, record.failures, record.seconds]
        parts += [one.tables for one in record.observations.values()]
    return repr(parts)


if __name__ == "__main__":
    sys.exit(main())
