"""What a run keeps beside its rounds: evaluations, failed rounds, and who holds what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcircuit.records.disk import append_line, complete_lines, sync_folder, write_whole
from fedcircuit.records.folder import EVALUATIONS, EVIDENCE, PARTITION, RunError, open_round_file
from fedcircuit.records.guard import explained
from fedcircuit.records.lines import record_to_json, to_line
from fedcircuit.records.manifest import plain
from fedcircuit.records.round_record import RoundRecord
from fedcircuit.records.rounds import round_bytes, round_from
from fedcircuit.records.updates import Storage
from fedcircuit.records.values import numbers_from_json, numbers_to_json


def add_evaluation(path: Path, number: int, metrics: Mapping[str, float]) -> None:
    """Add an evaluation of a recorded round.

    Raises
    ------
    RunError
        If a metric of it is kept already.
    """
    for known, names in read_evaluations(path):
        twice = sorted(set(names) & set(metrics))
        if known == number and twice:
            raise RunError(
                f"{path}: round {number} has an evaluation of {', '.join(twice)} already, which "
                "is never overwritten"
            )
    line = to_line({"round": number, "metrics": numbers_to_json(metrics, "metric")})
    with explained(path, f"the evaluation of round {number}", len(line)):
        append_line(path / EVALUATIONS, line)


def read_evaluations(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Round and metrics of every evaluation, in the order they came."""
    lines = [json.loads(line) for line in complete_lines(path / EVALUATIONS)]
    return [(line["round"], numbers_from_json(line["metrics"])) for line in lines]


def add_evidence(path: Path, record: RoundRecord, error: str, storage: Storage) -> Path:
    """Keep a round that failed; where clients' weights are kept at all, they are kept exactly."""
    exact = Storage("none" if storage.updates == "none" else "full", storage.scores)
    line = to_line({**record_to_json(record), "error": error})
    data = round_bytes(record, exact, None)
    folder = path / EVIDENCE
    with explained(path, f"the evidence of round {record.round}", len(data) + len(line)):
        if not folder.is_dir():
            folder.mkdir()
            sync_folder(path)
        number = 0
        while (file := folder / f"{record.round:04d}-{number}.json").exists():
            number += 1
        write_whole(file.with_suffix(".safetensors"), data)
        write_whole(file, line)
    return file


def evidence_files(path: Path) -> tuple[Path, ...]:
    """Files of the failed rounds kept, for :func:`read_evidence`."""
    return tuple(sorted((path / EVIDENCE).glob("*.json")))


def read_evidence(file: Path) -> tuple[RoundRecord, str]:
    """A round that failed, and the error."""
    line = json.loads(file.read_bytes())
    return round_from(line, open_round_file(file.with_suffix(".safetensors")), None), line["error"]


def write_partition(path: Path, payload: Mapping[str, object]) -> None:
    """Keep who holds what.

    Raises
    ------
    RunError
        If another partition is recorded already.
    """
    content = plain(payload, "partition")
    known = read_partition(path)
    if known is not None and known != content:
        raise RunError(
            f"{path} was made with another partition, which is never overwritten; resume with the "
            "data and the seed of its manifest"
        )
    data = (json.dumps(content, allow_nan=False, separators=(",", ":")) + "\n").encode()
    with explained(path, "the partition", len(data)):
        write_whole(path / PARTITION, data)


def read_partition(path: Path) -> dict[str, Any] | None:
    """Who holds what; None where it was not written."""
    file = path / PARTITION
    if not file.exists():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
