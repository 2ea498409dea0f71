"""Later looks at a run's weights: folders of their own in ``RUN/looks``, read like runs.

A look is a run folder without weights: the manifest says what was looked at and how, the lines
hold the tables, the round files the observers' arrays. Weights, partition, evaluations and
evidence are the run's, which a look never touches.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fedcircuit.records.files import DIGEST, Array, RunError
from fedcircuit.records.rounds import RoundRecord
from fedcircuit.records.runs.folder import LOOK, LOOKS, MANIFEST, read_manifest
from fedcircuit.records.runs.run import Run

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def look_names(path: Path) -> tuple[str, ...]:
    """Names of the looks in a run folder, in order."""
    return tuple(sorted(file.parent.name for file in (path / LOOKS).glob(f"*/{MANIFEST}")))


def look_path(path: Path, name: str) -> Path:
    """Where a look of a run is.

    Raises
    ------
    ValueError
        If the name could be no folder's.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"the name of a look has letters, digits, '.', '_' and '-', and begins with a letter "
            f"or a digit, got {name!r}"
        )
    return path / LOOKS / name


def is_look(path: Path) -> bool:
    """Whether a folder lies where looks lie, below a run."""
    folder = path.resolve()
    return folder.parent.name == LOOKS and (folder.parents[1] / MANIFEST).exists()


def seal_of(run: Run) -> str:
    """Digest of a run's manifest, to which its looks are bound; empty for an earlier version's."""
    return str(read_manifest(run.path).get(DIGEST, ""))


def loaded_look(path: Path, name: str) -> Look:
    """A look of a run, by name.

    Raises
    ------
    RunError
        If there is none of the name; those there are, or the nearest, are named.
    """
    known = look_names(path)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1) or known
        hint = f"did you mean {' or '.join(near)}?" if near else "it has none"
        raise RunError(f"{path} has no look {name!r}; {hint}")
    return Look(path / LOOKS / name)


class Look(Run):
    """What a later look at a run recorded: its own tables and circuits, the run's weights.

    Raises
    ------
    RunError
        If the folder is no look, or one at another run.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        said = self.manifest.get(LOOK)
        if not isinstance(said, Mapping):
            raise RunError(f"{path} is no look at a run: its {MANIFEST} does not say at which")
        if said.get("of") != seal_of(self.run):
            raise RunError(
                f"{path} is a look at another run than {self.run.path}: a look stays in the folder "
                "of its run"
            )

    @cached_property
    def run(self) -> Run:
        """The run that was looked at."""
        return Run(self.path.resolve().parents[1])

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it was looked at, where that differs from the run."""
        return dict(self.manifest[LOOK]["settings"])

    @property
    def looked_at(self) -> tuple[int, ...]:
        """Rounds that were looked at."""
        chosen = self.manifest[LOOK]["rounds"]
        return tuple(n for n in self.rounds if chosen is None or n in chosen)

    @property
    def in_words(self) -> str:
        """What was looked at and how, in a sentence."""
        settings = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        chosen = self.manifest[LOOK]["rounds"]
        rounds = "" if chosen is None else f", rounds {', '.join(map(str, chosen))}"
        return (
            f"A later look at the recorded weights ({self.path.name}{rounds}), with "
            f"{settings or 'the settings of the run'}; accuracy is as recorded."
        )

    @property
    def evaluations(self) -> pd.DataFrame:
        """Evaluations of the run."""
        return self.run.evaluations

    @property
    def evidence(self) -> pd.DataFrame:
        """Failed rounds of the run."""
        return self.run.evidence

    @property
    def partition(self) -> dict[str, Any] | None:
        """Who holds what in the run."""
        return self.run.partition

    def record(self, number: int) -> RoundRecord:
        """The run's round, with what was seen in this look in place of what was seen then."""
        seen = super().record(number)
        return replace(
            self.run.record(number),
            observations=seen.observations,
            observer_errors=seen.observer_errors,
            seconds=seen.seconds,
        )

    def weights(self, number: int) -> dict[str, Array]:
        """Global weights of the run."""
        return self.run.weights(number)

    def client_weights(self, number: int, client: str) -> dict[str, Array]:
        """Weights that a client sent in the run."""
        return self.run.client_weights(number, client)

    def start_of(self, number: int, client: str) -> dict[str, Array]:
        """Weights that a client's training started from in the run."""
        return self.run.start_of(number, client)
