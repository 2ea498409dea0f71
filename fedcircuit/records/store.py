"""A run's folder: rounds appended one after another, none lost, none overwritten."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from fedcircuit.learning.weights import Weights
from fedcircuit.records.jsonl import encode, plain, round_line
from fedcircuit.records.round_record import RoundRecord
from fedcircuit.records.rounds import RoundFile, Storage, decode_round, encode_round

SCHEMA = 1
MANIFEST, LINES, EVALUATIONS = "manifest.json", "rounds.jsonl", "evaluations.jsonl"


class RunError(RuntimeError):
    """A run folder that cannot be used as asked."""


class RunStore:
    """The folder of one run, open for writing by one process at a time.

    Make one with :meth:`create` or :meth:`open`. A round counts as recorded once
    :meth:`append` has returned; it is then on disk whatever happens next.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.storage = Storage(**manifest["storage"])
        self._lock = _locked(path)
        _cut_torn_line(path / LINES)
        _cut_torn_line(path / EVALUATIONS)
        self._lines = {line["round"]: line for line in read_lines(path / LINES)}
        self._weights: tuple[int, Weights] | None = None

    @classmethod
    def create(
        cls, path: Path | str, manifest: Mapping[str, object], storage: Storage | None = None
    ) -> RunStore:
        """A new run folder.

        Raises
        ------
        RunError
            If the folder exists and is not empty.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(
                f"{path} exists already and is not touched; choose another folder, or go on with "
                f"'fedcircuit resume {path}'"
            )
        (path / "rounds").mkdir(parents=True, exist_ok=True)
        content = {
            "schema": SCHEMA,
            **manifest,
            "storage": asdict(storage or Storage()),
        }
        text = json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
        _write_atomically(path / MANIFEST, text.encode())
        return cls(path, json.loads(text))

    @classmethod
    def open(cls, path: Path | str) -> RunStore:
        """An existing run folder, to be continued.

        Raises
        ------
        RunError
            If it is no run folder, of a newer schema, or open in another process.
        """
        return cls(Path(path), read_manifest(Path(path)))

    def close(self) -> None:
        """Let go of the folder, so that another process may write."""
        self._lock.close()

    def rounds(self) -> tuple[int, ...]:
        """Numbers of the recorded rounds, in order; 0 is the start."""
        return tuple(sorted(self._lines))

    def append(self, record: RoundRecord) -> None:
        """Record a round for good.

        Raises
        ------
        RunError
            If the round is recorded already or is not the next one, or the disk does not take
            it; what was recorded before is unharmed.
        """
        expected = max(self._lines, default=-1) + 1
        if record.round != expected:
            known = record.round in self._lines
            raise RunError(
                f"{self.path}: round {record.round} "
                + ("is recorded already" if known else f"is out of order, the next is {expected}")
            )
        line = round_line(record)
        before = self._sent(record.round)
        try:
            data = encode_round(record, self.storage, before)
            _write_atomically(round_path(self.path, record.round), data)
            _append_line(self.path / LINES, encode(line))
        except OSError as error:
            raise _not_recorded(self.path, record.round, error) from error
        self._lines[record.round] = line
        self._weights = (record.round, record.weights)

    def _sent(self, round_number: int) -> Weights | None:
        """Weights that the clients of a round started from."""
        if round_number == 0 or self.storage.updates != "delta-fp16":
            return None
        if self._weights is not None and self._weights[0] == round_number - 1:
            return self._weights[1]
        return RoundFile(round_path(self.path, round_number - 1)).read("global/")

    def read(self, round_number: int) -> RoundRecord:
        """A recorded round.

        Raises
        ------
        RunError
            If the round is not recorded.
        """
        if round_number not in self._lines:
            raise RunError(f"{self.path} has no round {round_number}; it has {self.rounds()}")
        file = RoundFile(round_path(self.path, round_number))
        return decode_round(self._lines[round_number], file, self._sent(round_number))

    def last(self) -> RoundRecord | None:
        """The latest recorded round; None where there is none."""
        return self.read(max(self._lines)) if self._lines else None

    def __iter__(self) -> Iterator[RoundRecord]:
        """Recorded rounds in order."""
        return (self.read(number) for number in self.rounds())

    def add_evaluation(self, round_number: int, metrics: Mapping[str, float]) -> None:
        """Keep the clients' evaluation of a round, which arrives after it was recorded."""
        line = {"round": round_number, "metrics": plain(metrics)}
        _append_line(self.path / EVALUATIONS, encode(line))

    def add_evidence(self, record: RoundRecord, error: str) -> Path:
        """Keep what the clients sent in a round whose aggregation failed; it never counts."""
        folder = self.path / "evidence"
        folder.mkdir(exist_ok=True)
        number = len(list(folder.glob("*.json")))
        stem = f"{record.round:04d}-{number}"
        data = encode_round(record, Storage(), None)
        _write_atomically(folder / f"{stem}.safetensors", data)
        line = {**round_line(record), "error": error}
        _write_atomically(folder / f"{stem}.json", encode(line))
        return folder / f"{stem}.json"

    def write_partition(self, payload: Mapping[str, object]) -> None:
        """Keep who holds what."""
        text = json.dumps(plain(payload), allow_nan=False)
        _write_atomically(self.path / "partition.json", text.encode())


def round_path(path: Path, round_number: int) -> Path:
    """Where the arrays of a round are."""
    return path / "rounds" / f"{round_number:04d}.safetensors"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises
    ------
    RunError
        If the folder holds no manifest, or one of a newer schema.
    """
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} is not a run folder: it has no {MANIFEST}") from error
    except json.JSONDecodeError as error:
        raise RunError(f"{path / MANIFEST} is damaged: {error}") from error
    if manifest["schema"] > SCHEMA:
        raise RunError(
            f"{path} was written by a newer fedcircuit (schema {manifest['schema']}, this one "
            f"reads up to {SCHEMA}); upgrade with pip install -U fedcircuit"
        )
    return manifest


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Complete lines of a JSON lines file; none where the file is missing."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)


def _locked(path: Path) -> IO[str]:
    handle = (path / ".lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise RunError(f"{path} is being written by another process") from error
    return handle


def _cut_torn_line(path: Path) -> None:
    """Put aside the beginning of a line that a killed process left at the end."""
    if not path.exists():
        return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end == len(data):
        return
    number = len(list(path.parent.glob(f"{path.name}.torn-*")))
    _write_atomically(path.with_name(f"{path.name}.torn-{number}"), data[end:])
    with path.open("r+b") as handle:
        handle.truncate(end)
        os.fsync(handle.fileno())


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _append_line(path: Path, line: bytes) -> None:
    existed = path.exists()
    with path.open("ab", buffering=0) as handle:
        start = os.fstat(handle.fileno()).st_size
        try:
            if handle.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle.fileno())
        except OSError:
            os.ftruncate(handle.fileno(), start)  # no half line before the next attempt
            raise
    if not existed:
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_recorded(path: Path, round_number: int, error: OSError) -> RunError:
    free = shutil.disk_usage(path).free / 2**20
    mend = (
        "free some space, or record less with storage.updates=delta-fp16 or none; then "
        f"'fedcircuit resume {path}'"
    )
    cause = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
    return RunError(
        f"{path}: round {round_number} could not be recorded: {cause} ({free:.0f} MiB free); "
        f"all earlier rounds are safe. To go on, {mend}"
    )
