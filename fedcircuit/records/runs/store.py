"""A run folder as it is written: rounds appended one after another, none lost, none overwritten."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedcircuit.records.files import (
    RunError,
    append_line,
    complete_lines,
    cut_torn_line,
    explained,
    lock,
    locked,
    remove_leftovers,
    sync_folder,
    write_whole,
)
from fedcircuit.records.files import digests as integrity
from fedcircuit.records.rounds import (
    Metric,
    RoundRecord,
    Storage,
    plain,
    record_to_json,
    round_bytes,
    to_line,
)
from fedcircuit.records.runs import side_files as beside
from fedcircuit.records.runs.folder import (
    EVALUATIONS,
    EVIDENCE,
    LINES,
    MANIFEST,
    ROUNDS,
    SCHEMA,
    RunFolder,
    read_manifest,
)


class RunStore:
    """The folder of one run, written by one process at a time.

    Make one with :meth:`create` or :meth:`open`. A round counts as recorded once :meth:`append`
    has returned: it is then on the disk, whatever happens to the process.
    """

    def __init__(self, path: Path) -> None:
        read_manifest(path)  # before the lock: it leaves a file
        self._release = weakref.finalize(self, lock.release, locked(path))
        for folder in (path, path / ROUNDS, path / EVIDENCE):
            remove_leftovers(folder)
        self._folder = RunFolder(path)
        beside.bring_up_to_date(self._folder)  # before anything of a damaged file is set aside
        self._cut_torn_lines()

    @classmethod
    def create(
        cls,
        path: Path | str,
        manifest: Mapping[str, object],
        storage: Storage | None = None,
    ) -> RunStore:
        """A new run folder.

        Parameters
        ----------
        path
            A folder that does not exist or is empty.
        manifest
            What :func:`fedcircuit.records.rounds.build_manifest` returns.
        storage
            What is kept; left out, what the manifest says under ``storage``, else everything.

        Raises
        ------
        RunError
            If the folder exists and is not empty, or another process is making it.
        ValueError
            If manifest and ``storage`` contradict each other.
        """
        path = Path(path)
        kept = asdict(_agreed(manifest.get("storage"), storage))
        content = plain({**manifest, "schema": SCHEMA, "storage": kept}, "manifest")
        content = integrity.sealed(content)
        data = (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
        _refuse_existing(path)
        with explained(path, "the manifest", len(data), new=True):
            path.mkdir(parents=True, exist_ok=True)
            key = locked(path)
            try:
                if (path / MANIFEST).exists():
                    raise RunError(f"{path} was made by another process just now")
                (path / ROUNDS).mkdir(exist_ok=True)
                sync_folder(path.absolute().parent)
                write_whole(path / MANIFEST, data)
                return cls(path)
            finally:
                lock.release(key)

    @classmethod
    def open(cls, path: Path | str) -> RunStore:
        """An existing run folder, to be continued.

        What a killed process left is put in order: unfinished files are deleted, a line that was
        cut off goes to ``rounds.jsonl.torn-0``. To read a run, use ``Run.load``, which changes
        nothing.

        Raises
        ------
        RunError
            If it is no run folder, of a newer schema, or being written by another process.
        """
        return cls(Path(path))

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest, as it was when the run was made."""
        return self._folder.manifest

    @property
    def seal(self) -> str:
        """Digest that the files beside the rounds are bound to, for ``beside.read_evidence``."""
        return self._folder.seal

    @property
    def storage(self) -> Storage:
        """What the run keeps."""
        return self._folder.storage

    def close(self) -> None:
        """Let go of the folder, so that another process may write; reading still works."""
        self._release()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def rounds(self) -> tuple[int, ...]:
        """Numbers of the recorded rounds; 0 is the start."""
        return tuple(range(self._folder.n_rounds))

    def recorded_now(self) -> int:
        """How many rounds the folder holds, the start among them, whoever wrote them."""
        self._folder.refresh()
        return self._folder.n_rounds

    def append(self, record: RoundRecord) -> None:
        """Record a round for good.

        Raises
        ------
        RunError
            If the round is recorded already or is not the next one, the store is closed, or the
            disk does not take it; what was recorded before is unharmed.
        ValueError, TypeError
            If the record holds what cannot be written, such as two clients of one name or an
            array of an unknown dtype; nothing is written then.
        """
        self._ready()
        self._folder.refresh()  # another store in this process may have written
        expected = self._folder.n_rounds
        if record.round < expected:
            raise RunError(
                f"{self.path}: round {record.round} is recorded already and is never overwritten; "
                f"the next is round {expected}"
            )
        if record.round > expected:
            raise RunError(
                f"{self.path}: round {record.round} is out of order; the next is round {expected}"
            )
        self._write(record)
        self._folder.refresh()

    def _write(self, record: RoundRecord) -> None:
        content = record_to_json(record)
        differs = self.storage.updates == "delta-fp16" and record.clients
        sent = self._folder.sent(record.round) if differs else None
        data = round_bytes(record, self.storage, sent)
        content[integrity.ARRAYS] = integrity.digest(data)
        line = integrity.sealed_line(to_line(content), self._folder.last)
        arrays, lines = self._folder.round_path(record.round), self.path / LINES
        with explained(self.path, f"round {record.round}", len(data) + len(line)):
            self._cut_torn_lines()
            write_whole(arrays, data)
            try:
                append_line(lines, line)
            except OSError:
                if lines.stat().st_size <= self._folder.end:  # the line is not there: make space
                    arrays.unlink(missing_ok=True)
                raise
        beside.note_recorded(self.path, rounds=record.round + 1)

    def read(self, number: int) -> RoundRecord:
        """A recorded round.

        Raises
        ------
        RunError
            If the round is not recorded, or its file is damaged.
        """
        return self._folder.record(number)

    def last(self) -> RoundRecord | None:
        """The latest complete round, from which a run resumes; None where there is none."""
        return self.read(self._folder.n_rounds - 1) if self._folder.n_rounds else None

    def __iter__(self) -> Iterator[RoundRecord]:
        """Recorded rounds in order."""
        return (self.read(number) for number in self.rounds())

    def add_evaluation(self, number: int, metrics: Mapping[str, Metric]) -> None:
        """Keep an evaluation that arrives after its round was recorded.

        Raises
        ------
        RunError
            If the round is not recorded, or a metric of it is kept already.
        """
        self._ready()
        self._folder.refresh()
        self._folder.check(number)
        beside.add_evaluation(self.path, number, metrics, self._folder.seal)

    def add_evidence(self, record: RoundRecord, error: str) -> Path:
        """Keep what the clients sent in a round whose aggregation failed; it never counts.

        Returns
        -------
        Path
            The file, for ``fedcircuit.records.runs.side_files.read_evidence``.
        """
        self._ready()
        return beside.add_evidence(self._folder, record, error)

    def write_partition(self, payload: Mapping[str, object]) -> None:
        """Keep who holds what.

        Raises
        ------
        RunError
            If another partition is recorded already.
        """
        self._ready()
        beside.write_partition(self.path, payload, self._folder.seal)

    def read_partition(self) -> dict[str, Any] | None:
        """Who holds what; None where it was not written."""
        return beside.read_partition(self.path, self._folder.seal)

    def _ready(self) -> None:
        if not self._release.alive:
            raise RunError(f"this store of {self.path} is closed; open it again to write")

    def _cut_torn_lines(self) -> None:
        cut_torn_line(self.path / LINES, self._folder.end)
        evaluations = self.path / EVALUATIONS
        cut_torn_line(evaluations, sum(map(len, complete_lines(evaluations))))


def _agreed(recorded: object, storage: Storage | None) -> Storage:
    """What manifest and argument say of storage, where they do not contradict each other."""
    if recorded is None:
        return storage or Storage()
    if not isinstance(recorded, Mapping):
        raise ValueError(f"storage of a manifest is a mapping, got {recorded!r}")
    said = Storage(**recorded)
    if storage is not None and storage != said:
        raise ValueError(f"the manifest says {said}, the argument {storage}; give one of them")
    return said


def _refuse_existing(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise RunError(
            f"{path} is a link to {os.readlink(path)}, which does not exist or leads back to "  # noqa: PTH115
            "itself; mend the link, or choose another folder with --out"
        )
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; choose another folder with --out")
    if path.exists() and any(entry.name != lock.LOCK for entry in path.iterdir()):
        raise RunError(
            f"{path} exists already and is left as it is; choose another folder (--out, run_dir), "
            f"or continue the run in it: resume=True, or 'fedcircuit resume {path}' for a study"
        )
