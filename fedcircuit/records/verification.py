"""Everything in a run folder read and checked, one finding after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fedcircuit.records.beside import (
    evidence_files,
    read_evaluations,
    read_evidence,
    read_partition,
)
from fedcircuit.records.disk import complete_lines
from fedcircuit.records.folder import (
    EVALUATIONS,
    EVIDENCE,
    LINES,
    MANIFEST,
    PARTITION,
    RECORDED,
    ROUNDS,
    RunFolder,
)
from fedcircuit.records.lock import LOCK
from fedcircuit.records.reading import RunError

_KNOWN = {MANIFEST, LINES, EVALUATIONS, PARTITION, RECORDED, LOCK, "report.html"}
_KNOWN_FOLDERS = {ROUNDS, EVIDENCE, "figures"}
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
    return tuple(_findings(Path(path)))


def _findings(path: Path) -> Iterator[Finding]:
    try:
        folder = RunFolder(path)
    except RunError as error:  # nothing behind a broken line can be trusted
        yield Finding(str(error), damage=True)
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
    yield from _strays(folder)


def _round(folder: RunFolder, number: int) -> Iterator[Finding]:
    """Whether all of a round can be read, and its arrays are those its line speaks of."""
    try:
        record = folder.record(number)
        file = folder.file(number)
    except RunError as error:
        yield Finding(str(error), damage=True)
        return
    where = f"{folder.round_path(number)} (round {number})"
    if not record.weights:
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


def _strays(folder: RunFolder) -> Iterator[Finding]:
    """What lies in the folder and belongs to no round."""
    path = folder.path
    complete = sum(map(len, complete_lines(path / LINES)))
    if (path / LINES).exists() and (path / LINES).stat().st_size > complete:
        words = "ends in a line that was cut off; it is set aside when the run goes on"
        yield Finding(f"{path / LINES} {words}", damage=False)
    expected = {folder.round_path(number).name for number in range(folder.n_rounds)}
    for entry in sorted((path / ROUNDS).iterdir()):
        if entry == folder.round_path(folder.n_rounds):
            words = "has no line yet: its writer is at work, or was stopped before it wrote one"
            yield Finding(f"{entry} (round {folder.n_rounds}) {words}", damage=False)
        elif entry.name not in expected:
            yield Finding(f"{entry} belongs to no round", damage=False)
    for entry in sorted(path.iterdir()):
        known = _KNOWN_FOLDERS if entry.is_dir() else _KNOWN
        if entry.name not in known and not _ASIDE.fullmatch(entry.name):
            yield Finding(f"{entry} is no part of a run", damage=False)


def as_text(findings: tuple[Finding, ...], path: Path | str) -> str:
    """Findings for a person, one a line."""
    damages = sum(finding.damage for finding in findings)
    lines = [("damaged: " if one.damage else "note: ") + one.words for one in findings]
    end = f"{path} is whole" if not damages else f"{damages} damaged"
    return "\n".join([*lines, end])
