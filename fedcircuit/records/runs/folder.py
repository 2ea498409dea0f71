"""A run folder as it is read, by the process that writes it or by any other meanwhile."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fedcircuit.records.files import LOCK, Array, RunError, complete_lines, reading
from fedcircuit.records.files import digests as integrity
from fedcircuit.records.rounds import (
    Json,
    RoundFile,
    RoundRecord,
    Storage,
    checked_line,
    round_from,
)

SCHEMA = 1
MANIFEST, LINES, EVALUATIONS = "manifest.json", "rounds.jsonl", "evaluations.jsonl"
ROUNDS, EVIDENCE, PARTITION = "rounds", "evidence", "partition.json"
RECORDED = "recorded"
LOOKS, LOOK = "looks", "look"  # folder of later looks; key of a look's manifest
_ARRAYS = re.compile(rb',"arrays":"([A-Za-z0-9_-]{22})"$')
_ARRAYS_FILE = re.compile(r"[0-9]{4,12}\.safetensors")
_ROUND = re.compile(rb'\{"round": ?(\d+)')


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run folder, with its digest where it has one.

    Raises
    ------
    RunError
        If the folder holds none, or a damaged one, or one of a newer schema.
    """
    file = path / MANIFEST
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{path} is not a run folder: it has no {MANIFEST}{_near(path)}") from error
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    with reading(file):
        manifest = json.loads(text)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if type(schema) is not int or schema < 1:  # True is an int, too
        raise RunError(
            f"{file} is not the manifest of a run: its schema must be a whole number >= 1, got "
            f"{reprlib.repr(schema)}"
        )
    if schema > SCHEMA:
        raise RunError(
            f"{file} was written by a newer fedcircuit (schema {reprlib.repr(schema)}, this one "
            f"reads up to {SCHEMA}); upgrade with 'pip install -U fedcircuit'"
        )
    if integrity.fits(manifest) is False:
        raise RunError(
            f"{file} is damaged or was changed: its content does not fit its digest; restore it "
            "from a copy of the run"
        )
    return dict(manifest)


def is_of_a_beginning(entry: Path) -> bool:
    """Whether a killed process left this before the manifest was there: nothing is lost with it."""
    if entry.name == ROUNDS:
        return entry.is_dir() and not any(entry.iterdir())
    return entry.name in (LOCK, f".{MANIFEST}.tmp")


def _near(path: Path) -> str:
    """Run folders right below a folder that is none, as a hint."""
    if not path.is_dir():
        return "" if path.exists() else "; there is no such folder"
    runs = sorted(file.parent for file in path.glob(f"*/{MANIFEST}"))
    return f"; did you mean {runs[0]}?" if runs else ""


class RunFolder:
    """Rounds of a run on disk; :meth:`refresh` finds those written since.

    What is read is checked against the digests in the folder (see ``integrity``); a run of an
    earlier version has none, and :attr:`n_unsealed` says how many of its rounds.

    Raises
    ------
    RunError
        If the folder is no run, its lines are not its rounds in order, or something is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        self.seal: str = self.manifest.pop(integrity.DIGEST, "")  # what other files are bound to
        with reading(path / MANIFEST, "storage"):
            self.storage = Storage(**self.manifest.get("storage", {}))
        self._ends = [0]  # where each line of rounds.jsonl ends
        self._arrays: list[str | None] = []  # digest of each round's arrays
        self._verified: dict[int, tuple[int, int]] = {}  # size and time of files that fit
        self.last = self.seal  # digest of the last line
        self.n_unsealed = 0
        self.refresh()

    @property
    def n_rounds(self) -> int:
        """Number of recorded rounds, round 0 (the start) included."""
        return len(self._ends) - 1

    @property
    def end(self) -> int:
        """Bytes of ``rounds.jsonl`` that hold complete lines."""
        return self._ends[-1]

    def refresh(self) -> None:
        """Take note of rounds written since."""
        said = recorded_counts(self.path).rounds  # both first: a writer goes on meanwhile
        highest = max(_numbers_of_arrays(self.path), default=0)
        file = self.path / LINES
        with reading(file):
            lines = complete_lines(file, self.end)
        for line in lines:
            self._take(line)
        if self.n_rounds < said:
            raise RunError(
                f"{file} has {self.n_rounds} whole lines, {said} were recorded (rounds 0 to "
                f"{said - 1}): line {self.n_rounds + 1} (round {self.n_rounds}) is damaged, or the "
                "file was cut or replaced; restore it from a copy of the run"
            )
        if highest > self.n_rounds:
            raise RunError(
                f"{file} has {self.n_rounds} lines, but there are arrays of round {highest} "
                f"({self.round_path(highest).name}): it was cut; restore it from a copy of the run"
            )

    def _take(self, line: bytes) -> None:
        """Check one line more and note it."""
        number = self.n_rounds
        where = f"{self.path / LINES}, line {number + 1} (round {number})"
        match = _ROUND.match(line)
        if match is None or int(match[1][:12]) != number:
            raise RunError(
                f"{where}: expected round {number}, got {line[:40]!r}; the file is damaged or was "
                "changed by hand. Restore it from a copy of the run"
            )
        body, said = integrity.seal_of(line)
        must = bool(self.seal) or self.n_unsealed < number
        right = integrity.digest(self.last.encode(), body)
        if must if said is None else said != right:
            raise RunError(
                f"{where} is damaged: it does not fit its digest, or the lines before; restore the "
                "file from a copy of the run"
            )
        self.n_unsealed += said is None
        self.last = integrity.digest(self.last.encode(), line) if said is None else said
        found = None if said is None else _ARRAYS.search(body)
        self._arrays.append(None if found is None else found[1].decode())
        self._ends.append(self.end + len(line))

    def check(self, number: int) -> None:
        """Make sure that a round is recorded.

        Raises
        ------
        RunError
            If it is not.
        """
        if not 0 <= number < self.n_rounds:
            known = f"rounds 0 to {self.n_rounds - 1}" if self.n_rounds else "no rounds yet"
            raise RunError(f"{self.path} has no round {number}; it has {known}")

    def line(self, number: int) -> dict[str, Json]:
        """The line of a recorded round, without its seal, which was checked."""
        self.check(number)
        return next(self.lines(number))

    def lines(self, start: int = 0) -> Iterator[dict[str, Json]]:
        """Lines of the recorded rounds from ``start`` on, one in memory at a time."""
        if start >= self.n_rounds:
            return
        path = self.path / LINES
        with reading(path):
            file = path.open("rb")
        with file:
            file.seek(self._ends[start])
            for number in range(start, self.n_rounds):
                with reading(path, f"line {number + 1} (round {number})"):
                    text = file.read(self._ends[number + 1] - self._ends[number])
                    line = checked_line(json.loads(text))
                    line.pop(integrity.SEAL, None)
                yield line

    def round_path(self, number: int) -> Path:
        """Where the arrays of a round are."""
        return self.path / ROUNDS / f"{number:04d}.safetensors"

    def file(self, number: int) -> RoundFile:
        """The arrays of a recorded round.

        Raises
        ------
        RunError
            If the file is missing, damaged, or not the one that was recorded.
        """
        self.check(number)
        path = self.round_path(number)
        self._verify(number, path)
        return open_round_file(path, number)

    def _verify(self, number: int, path: Path) -> None:
        said = self._arrays[number]
        if said is None:
            return
        with reading(path, f"round {number}"):
            status = path.stat()
            state = (status.st_size, status.st_mtime_ns)
            if self._verified.get(number) == state:
                return
            fits = integrity.digest_of_file(path) == said
        if not fits:
            raise RunError(
                f"{path} (round {number}) is damaged or was replaced: it does not fit the digest "
                f"in {LINES}; restore it from a copy of the run"
            )
        self._verified[number] = state

    def sent(self, number: int) -> dict[str, Array] | None:
        """Global weights that a round started from; None for round 0, the start."""
        return self.file(number - 1).global_weights() if number > 0 else None

    def client_weights(self, number: int, client: str) -> dict[str, Array]:
        """Weights of a client in a round; empty where none are kept."""
        file = self.file(number)
        return file.client_weights(client, self.sent(number) if file.has_differences else None)

    def record(self, number: int) -> RoundRecord:
        """A recorded round, whole."""
        file = self.file(number)
        sent = self.sent(number) if file.has_differences else None
        line = self.line(number)
        with reading(self.path / LINES, f"line {number + 1} (round {number})"):
            return round_from(line, file, sent)


class Counts(NamedTuple):
    """How many lines and files of a run are complete, as their writer has noted."""

    rounds: int = 0
    evaluations: int = 0
    partitions: int = 0
    evidence: int = 0


def recorded_counts(path: Path) -> Counts:
    """What is noted; zeros for a run that was just begun, or one of an earlier version."""
    file = path / RECORDED
    with reading(file):
        counts = Counts(*map(int, file.read_text("ascii").split())) if file.exists() else Counts()
        if min(counts) < 0:
            raise ValueError(f"counts are at least 0, got {tuple(counts)}")
        return counts


def _numbers_of_arrays(path: Path) -> list[int]:
    folder = path / ROUNDS
    with reading(folder):
        names = [entry.name for entry in folder.iterdir()] if folder.exists() else []
    return [int(name[:-12]) for name in names if _ARRAYS_FILE.fullmatch(name)]


def open_round_file(path: Path, number: int | None = None) -> RoundFile:
    """The arrays in a file.

    Raises
    ------
    RunError
        If the file is missing or damaged.
    """
    with reading(path, "" if number is None else f"round {number}"):
        return RoundFile(path)
