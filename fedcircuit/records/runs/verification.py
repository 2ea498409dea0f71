"""Everything in a run folder read and checked, one finding after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fedcircuit.records.files import LOCK, TEMPORARY, RunError, complete_lines, reading
from fedcircuit.records.files import digests as integrity
from fedcircuit.records.runs.folder import (
    EVALUATIONS,
    EVIDENCE,
    LINES,
    LOOK,
    LOOKS,
    MANIFEST,
    PARTITION,
    RECORDED,
    ROUNDS,
    RunFolder,
    read_manifest,
    recorded_counts,
)
from fedcircuit.records.runs.looks import loaded_look, look_names
from fedcircuit.records.runs.side_files import (
    evidence_files,
    read_evaluations,
    read_evidence,
    read_partition,
)

_KNOWN = {MANIFEST, LINES, EVALUATIONS, PARTITION, RECORDED, LOCK, "report.html"}
_KNOWN_FOLDERS = {ROUNDS, EVIDENCE, LOOKS, "figures", "trackers"}
_ASIDE = re.compile(r".*\.torn-\d+")


@dataclass(frozen=True)
class Finding:
    """One thing found in a run folder.

    Parameters
    ----------
    words
        What it is, with file and round.
    damage
        True where something recorded is lost or wrong; False for a mere remark.
    """

    words: str
    damage: bool


def verify_run(path: Path | str) -> tuple[Finding, ...]:
    """All that is wrong, or worth a remark, in a run folder; empty where it is whole.

    A run may be verified while it is being written: what comes meanwhile is left out.
    """
    path = Path(path)
    found = [*_findings(path), *(f for name in look_names(path) for f in _look(path, name))]
    return tuple(dict.fromkeys(found))  # one cause may show twice


def _look(path: Path, name: str) -> Iterator[Finding]:
    """A later look at the run: its own files, and that it is of this run."""
    own = list(_findings(path / LOOKS / name))
    yield from own
    if not any(finding.damage for finding in own):
        try:
            loaded_look(path, name)
        except RunError as error:
            yield Finding(str(error), damage=True)


def _findings(path: Path) -> Iterator[Finding]:
    try:
        folder = RunFolder(path)
    except RunError as error:  # nothing behind a broken line can be trusted
        yield Finding(str(error), damage=True)
        with suppress(RunError):
            yield from _beside(path, read_manifest(path).get(integrity.DIGEST, ""))
        return
    if folder.n_unsealed:
        yield Finding(
            f"{path}: {folder.n_unsealed} of {folder.n_rounds} rounds were recorded by an earlier "
            "version, without digests: damage to them may pass",
            damage=False,
        )
    for number in range(folder.n_rounds):
        yield from _round(folder, number)
    yield from _beside(path, folder.seal)
    try:
        yield from _behind(folder)
        with reading(path):
            strays = list(_strays(path))
    except RunError as error:
        yield Finding(str(error), damage=True)
    else:
        yield from strays


def _round(folder: RunFolder, number: int) -> Iterator[Finding]:
    """Whether all of a round can be read, and its arrays are those its line speaks of."""
    try:
        record = folder.record(number)
        file = folder.file(number)
    except RunError as error:
        yield Finding(str(error), damage=True)
        return
    where = f"{folder.round_path(number)} (round {number})"
    if not record.weights and LOOK not in folder.manifest:
        yield Finding(f"{where} holds no global weights", damage=True)
    if folder.storage.updates == "none":
        return
    clients = {client.client for client in record.clients}
    if clients != set(file.clients):
        odd = sorted(clients.symmetric_difference(file.clients))[:5]
        yield Finding(f"{where} and its line name other clients: {', '.join(odd)}", damage=True)


def _beside(path: Path, seal: str) -> Iterator[Finding]:
    checks: list[Callable[[], object]] = [
        partial(read_partition, path, seal),
        partial(read_evaluations, path, seal),
    ]
    try:
        checks += [partial(read_evidence, file, seal) for file in evidence_files(path)]
    except RunError as error:
        yield Finding(str(error), damage=True)
    for check in checks:
        try:
            check()
        except RunError as error:
            yield Finding(str(error), damage=True)


def _behind(folder: RunFolder) -> Iterator[Finding]:
    """Whether the number of complete lines is noted; a writer is at most one line ahead of it."""
    said = recorded_counts(folder.path).rounds  # after the lines: they may only have become more
    if folder.seal and said < folder.n_rounds - 1:
        yield Finding(
            f"{folder.path / RECORDED} speaks of {said} lines of {LINES}, there are "
            f"{folder.n_rounds}: it was changed or deleted, and a cut of the others would pass; "
            "it is put right when the run goes on",
            damage=False,
        )


def _strays(path: Path) -> Iterator[Finding]:
    """What lies in the folder and belongs to no round."""
    entries = sorted((path / ROUNDS).iterdir()) if (path / ROUNDS).exists() else []
    for file in (path / LINES, path / EVALUATIONS):
        size = file.stat().st_size if file.exists() else 0
        if size > sum(map(len, complete_lines(file))):  # longer by now at most, being written
            words = "ends in a line that was cut off; it is set aside when the run goes on"
            yield Finding(f"{file} {words}", damage=False)
    for entry in (entry for entry in path.rglob(TEMPORARY) if entry.is_file()):
        words = "is not finished: its writer is at work, or was stopped"
        yield Finding(f"{entry} {words}", damage=False)
    folder = RunFolder(path)  # as far as it is by now
    expected = {folder.round_path(number).name for number in range(folder.n_rounds)}
    for entry in entries:
        if entry == folder.round_path(folder.n_rounds):
            words = "has no line yet: its writer is at work, or was stopped before it wrote one"
            yield Finding(f"{entry} (round {folder.n_rounds}) {words}", damage=False)
        elif entry.name not in expected and not entry.match(TEMPORARY):
            yield Finding(f"{entry} belongs to no round", damage=False)
    for file in sorted((path / EVIDENCE).glob("*")):
        lonely = file.suffix != ".json" and not file.with_suffix(".json").exists()
        if lonely and not file.match(TEMPORARY):
            words = "has no .json: its writer is at work, or was stopped before it wrote one"
            yield Finding(f"{file} {words}", damage=False)
    for entry in sorted(path.iterdir()):
        known = _KNOWN_FOLDERS if entry.is_dir() else _KNOWN
        aside = _ASIDE.fullmatch(entry.name) or entry.match(TEMPORARY)
        if entry.name not in known and not aside:
            yield Finding(f"{entry} is no part of a run", damage=False)


def as_text(findings: tuple[Finding, ...], path: Path | str) -> str:
    """Findings for a person, one a line."""
    damages = sum(finding.damage for finding in findings)
    lines = [("damaged: " if one.damage else "note: ") + one.words for one in findings]
    end = f"{path} is whole" if not damages else f"{damages} damaged"
    return "\n".join([*lines, end])
