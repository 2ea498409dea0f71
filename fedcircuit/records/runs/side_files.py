"""What a run keeps beside its rounds: evaluations, failed rounds, and who holds what."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcircuit.records.files import (
    RunError,
    append_line,
    complete_lines,
    explained,
    reading,
    sync_folder,
    write_whole,
)
from fedcircuit.records.files import digests as integrity
from fedcircuit.records.rounds import (
    Metric,
    RoundRecord,
    Storage,
    metrics_from_json,
    metrics_to_json,
    plain,
    record_to_json,
    round_bytes,
    round_from,
    to_line,
)
from fedcircuit.records.runs.folder import (
    EVALUATIONS,
    EVIDENCE,
    PARTITION,
    RECORDED,
    Counts,
    RunFolder,
    open_round_file,
    recorded_counts,
)

logger = logging.getLogger(__name__)


def add_evaluation(path: Path, number: int, metrics: Mapping[str, Metric], seal: str) -> None:
    """Add an evaluation of a recorded round.

    Raises
    ------
    RunError
        If a metric of it is kept already.
    """
    known, last = _evaluations(path, seal)
    for other, names in known:
        twice = sorted(set(names) & set(metrics))
        if other == number and twice:
            raise RunError(
                f"{path}: round {number} has an evaluation of {', '.join(twice)} already, which "
                "is never overwritten"
            )
    line = to_line({"round": number, "metrics": metrics_to_json(metrics, "metric")})
    line = integrity.sealed_line(line, last)
    with explained(path, f"the evaluation of round {number}", len(line)):
        append_line(path / EVALUATIONS, line)
    note_recorded(path, evaluations=len(known) + 1)


def read_evaluations(path: Path, seal: str) -> list[tuple[int, dict[str, Metric]]]:
    """Round and metrics of every evaluation, in the order they came.

    Raises
    ------
    RunError
        If the file is damaged, or shorter than it was.
    """
    return _evaluations(path, seal)[0]


def _evaluations(path: Path, seal: str) -> tuple[list[tuple[int, dict[str, Metric]]], str]:
    """Evaluations, and the digest of the last line."""
    file = path / EVALUATIONS
    last = integrity.bound(seal, file)  # no line of another file fits here
    said = recorded_counts(path).evaluations  # first: a writer goes on meanwhile
    with reading(file):
        lines = complete_lines(file)
    found = []
    for index, line in enumerate(lines, start=1):
        body, given = integrity.seal_of(line)
        if (given is None and seal) or given not in (
            None,
            integrity.digest(last.encode(), body),
        ):
            raise RunError(f"{file}, line {index} is damaged: it does not fit its digest, or the "
                           "lines before; restore the file from a copy of the run")  # fmt: skip
        last = given or integrity.digest(last.encode(), line)
        with reading(file, f"line {index}"):
            content = json.loads(line)
            found.append((int(content["round"]), metrics_from_json(content["metrics"])))
    if len(found) < said:
        raise RunError(
            f"{file} has {len(found)} whole lines, {said} were recorded: it is damaged or was cut; "
            "restore it from a copy of the run"
        )
    return found, last


def bring_up_to_date(folder: RunFolder) -> None:
    """Note what is complete where a killed process or a full disk left the note behind.

    Raises
    ------
    RunError
        If evaluations or the partition are damaged: nobody goes on writing beside such.
    """
    path = folder.path
    said = recorded_counts(path)
    found = Counts(
        folder.n_rounds,
        len(read_evaluations(path, folder.seal)),
        int(read_partition(path, folder.seal) is not None),
        len(evidence_files(path)),
    )
    if found != said and folder.seal:
        note_recorded(path, **found._asdict())


def note_recorded(path: Path, **counts: int) -> None:
    """Note how much is complete, so that a file that was cut or deleted does not pass.

    Parameters
    ----------
    path
        The run folder.
    **counts
        Fields of ``folder.Counts`` that have changed.
    """
    new = recorded_counts(path)._replace(**counts)
    try:
        write_whole(path / RECORDED, (" ".join(map(str, new)) + "\n").encode())
    except OSError as error:  # what it counts is on the disk; the note stays behind it
        logger.warning("%s: could not note that a line is complete: %s", path, error.strerror)


def add_evidence(folder: RunFolder, record: RoundRecord, error: str) -> Path:
    """Keep a round that failed; where clients' weights are kept at all, they are kept exactly."""
    path, storage = folder.path, folder.storage
    exact = Storage("none" if storage.updates == "none" else "full", storage.scores)
    data = round_bytes(record, exact, None)
    content = {**record_to_json(record), "error": error, integrity.ARRAYS: integrity.digest(data)}
    place, number = path / EVIDENCE, 0
    while (file := place / f"{record.round:04d}-{number}.json").exists():
        number += 1
    line = to_line(integrity.sealed(content, integrity.bound(folder.seal, file)))
    with explained(path, f"the evidence of round {record.round}", len(data) + len(line)):
        if not place.is_dir():
            place.mkdir()
            sync_folder(path)
        write_whole(file.with_suffix(".safetensors"), data)
        write_whole(file, line)
    note_recorded(path, evidence=len(list(place.glob("*.json"))))
    return file


def evidence_files(path: Path) -> tuple[Path, ...]:
    """Files of the failed rounds kept, for :func:`read_evidence`.

    Raises
    ------
    RunError
        If there are fewer than were written.
    """
    said = recorded_counts(path).evidence  # first: a writer goes on meanwhile
    with reading(path / EVIDENCE):
        files = tuple(sorted((path / EVIDENCE).glob("*.json")))
    if len(files) < said:
        raise RunError(
            f"{path / EVIDENCE} has {len(files)} failed rounds, {said} were recorded; restore it "
            "from a copy of the run"
        )
    return files


def read_evidence(file: Path, seal: str) -> tuple[RoundRecord, str]:
    """A round that failed, and the error.

    Raises
    ------
    RunError
        If a file of it is missing or damaged.
    """
    content = _checked(file, seal)
    arrays = file.with_suffix(".safetensors")
    said = content.get(integrity.ARRAYS)
    with reading(arrays):
        if said is not None and integrity.digest_of_file(arrays) != said:
            raise RunError(f"{arrays} is damaged or was replaced: it does not fit the digest in "
                           f"{file.name}; restore it from a copy of the run")  # fmt: skip
    with reading(file):
        if content["round"] != int(file.stem.partition("-")[0]):
            raise ValueError(f"it is of round {content['round']}, which its name does not say")
        return round_from(content, open_round_file(arrays), None), str(content["error"])


def write_partition(path: Path, payload: Mapping[str, object], seal: str) -> None:
    """Keep who holds what.

    Raises
    ------
    RunError
        If another partition is recorded already.
    """
    content = plain(payload, "partition")
    known = read_partition(path, seal)
    if known is not None and known != content:
        raise RunError(
            f"{path} was made with another partition, which is never overwritten; resume with the "
            "data and the seed of its manifest"
        )
    bound = integrity.bound(seal, path / PARTITION)
    sealed = integrity.sealed(content, bound) if seal else content
    data = (json.dumps(sealed, allow_nan=False, separators=(",", ":")) + "\n").encode()
    with explained(path, "the partition", len(data)):
        write_whole(path / PARTITION, data)
    note_recorded(path, partitions=1)


def read_partition(path: Path, seal: str) -> dict[str, Any] | None:
    """Who holds what; None where it was not written.

    Raises
    ------
    RunError
        If the file is damaged or of another run.
    """
    file, said = path / PARTITION, recorded_counts(path).partitions
    with reading(file):
        if not file.exists() and not said:
            return None
    content = _checked(file, seal)
    content.pop(integrity.DIGEST, None)
    return content


def _checked(file: Path, seal: str) -> dict[str, Any]:
    """The content of a file of JSON that fits its digest; of an earlier version it has none."""
    with reading(file):
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict):
            raise TypeError(f"expected an object, got {type(content).__name__}")
        fits = integrity.fits(content, integrity.bound(seal, file))
    if fits is False or (fits is None and seal):
        raise RunError(
            f"{file} is damaged or was changed: its content does not fit its digest; restore it "
            "from a copy of the run"
        )
    return content
