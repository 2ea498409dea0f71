"""A run folder as it is read, by the process that writes it or by any other meanwhile."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedcircuit.records.codec import Array
from fedcircuit.records.disk import complete_lines
from fedcircuit.records.round_record import RoundRecord
from fedcircuit.records.rounds import RoundFile, round_from
from fedcircuit.records.updates import Storage
from fedcircuit.records.values import Json

SCHEMA = 1
MANIFEST, LINES, EVALUATIONS = "manifest.json", "rounds.jsonl", "evaluations.jsonl"
ROUNDS, EVIDENCE, PARTITION = "rounds", "evidence", "partition.json"
_ROUND = re.compile(rb'\{"round": ?(\d+)')


class RunError(RuntimeError):
    """A run folder that cannot be used as asked; the message says why and how to mend it."""


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises
    ------
    RunError
        If the folder holds none, or a damaged one, or one of a newer schema.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{path} is not a run folder: it has no {MANIFEST}{_near(path)}") from error
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("schema"), int):
        raise RunError(f"{file} is not the manifest of a run: it has no schema number")
    if manifest["schema"] > SCHEMA:
        raise RunError(
            f"{path} was written by a newer fedcircuit (schema {manifest['schema']}, this one "
            f"reads up to {SCHEMA}); upgrade with 'pip install -U fedcircuit'"
        )
    return manifest


def _near(path: Path) -> str:
    """Run folders right below a folder that is none, as a hint."""
    if not path.is_dir():
        return "" if path.exists() else "; there is no such folder"
    runs = sorted(file.parent for file in path.glob(f"*/{MANIFEST}"))
    return f"; did you mean {runs[0]}?" if runs else ""


class RunFolder:
    """Rounds of a run on disk; :meth:`refresh` finds those written since.

    Raises
    ------
    RunError
        If the folder is no run, or its lines are not its rounds in order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        self.storage = Storage(**self.manifest.get("storage", {}))
        self._ends = [0]  # where each line of rounds.jsonl ends
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
        for line in complete_lines(self.path / LINES, self.end):
            match = _ROUND.match(line)
            if match is None or int(match[1]) != self.n_rounds:
                raise RunError(
                    f"{self.path / LINES}, line {self.n_rounds + 1}: expected round "
                    f"{self.n_rounds}, got {line[:40]!r}; the file was changed by hand. Restore "
                    "it, or delete this line and all after it to go on from the round before"
                )
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
        """The line of a recorded round."""
        self.check(number)
        return next(self.lines(number))

    def lines(self, start: int = 0) -> Iterator[dict[str, Json]]:
        """Lines of the recorded rounds from ``start`` on, one in memory at a time."""
        if start >= self.n_rounds:
            return
        with (self.path / LINES).open("rb") as file:
            file.seek(self._ends[start])
            for number in range(start, self.n_rounds):
                text = file.read(self._ends[number + 1] - self._ends[number])
                try:
                    line: dict[str, Json] = json.loads(text)
                except ValueError as error:
                    raise RunError(
                        f"{self.path / LINES}, line {number + 1} is damaged: {error}"
                    ) from error
                yield line

    def round_path(self, number: int) -> Path:
        """Where the arrays of a round are."""
        return self.path / ROUNDS / f"{number:04d}.safetensors"

    def file(self, number: int) -> RoundFile:
        """The arrays of a recorded round."""
        self.check(number)
        return open_round_file(self.round_path(number))

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
        return round_from(self.line(number), file, sent)


def open_round_file(path: Path) -> RoundFile:
    """The arrays in a file.

    Raises
    ------
    RunError
        If the file is missing or damaged.
    """
    try:
        return RoundFile(path)
    except FileNotFoundError as error:
        raise RunError(
            f"{path} is missing; copy the run folder again, with its sub-folder {ROUNDS}"
        ) from error
    except ValueError as error:
        raise RunError(f"{error}; restore it from a copy of the run") from error
