"""The folder of a sweep: ``sweep.json``, and the run of each arm and seed in ``ARM/seedN``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedcircuit.records.files import RunError, digests, reading, write_whole, writing
from fedcircuit.records.rounds import plain
from fedcircuit.records.runs import MANIFEST, Run

SWEEP = "sweep.json"
SCHEMA = 1


@dataclass(frozen=True)
class Sweep:
    """Arms, each run with the same seeds.

    Parameters
    ----------
    path
        The folder.
    seeds
        In ascending order.
    arms
        The configuration of each arm without its seed, by name; the first is what others are
        compared with.
    unpaired
        Keys in which arms differ although runs of one seed should share them, as was asked for.
    """

    path: Path
    seeds: tuple[int, ...]
    arms: Mapping[str, Mapping[str, Any]]
    unpaired: tuple[str, ...] = field(default=())

    @property
    def tasks(self) -> tuple[tuple[str, int], ...]:
        """Arm and seed of every run, all arms of a seed before the next seed."""
        return tuple((arm, seed) for seed in self.seeds for arm in self.arms)

    def run_path(self, arm: str, seed: int) -> Path:
        """The run folder of an arm and seed, there or not."""
        return self.path / arm / f"seed{seed}"

    def finished(self, arm: str, seed: int) -> Run | None:
        """The run of an arm and seed if it has all its rounds.

        Raises
        ------
        RunError
            If the folder is damaged, or holds a run with other settings.
        """
        path = self.run_path(arm, seed)
        if not (path / MANIFEST).exists():
            return None
        run = Run.load(path)
        config = run.manifest.get("config")
        if config != {**self.arms[arm], "seed": seed}:
            raise RunError(
                f"{path} is not the run of arm {arm!r} and seed {seed}: its configuration is "
                f"another one than {self.path / SWEEP} says; move it away"
            )
        return run if len(run.rounds) >= self.rounds(arm) else None

    def rounds(self, arm: str) -> int:
        """Rounds of each of the arm's runs."""
        return int(self.arms[arm]["training"]["rounds"])


def is_sweep(path: Path) -> bool:
    """Whether the folder is that of a sweep."""
    return (path / SWEEP).is_file()


def read_sweep(path: Path) -> Sweep:
    """The sweep in a folder.

    Raises
    ------
    RunError
        If there is none, it is damaged, or of a newer schema.
    """
    file = path / SWEEP
    try:
        text = file.read_bytes()
    except OSError as error:
        raise RunError(f"{path} is not the folder of a sweep: {SWEEP}: {error.strerror}") from error
    with reading(file):
        content = json.loads(text)
        schema = content["schema"]
        if schema == SCHEMA and digests.fits(content) is not True:
            raise ValueError("its content does not fit its digest")
    if schema != SCHEMA:
        raise RunError(
            f"{file} has schema {schema!r}, this fedcircuit reads {SCHEMA}; upgrade with "
            "'pip install -U fedcircuit'"
        )
    with reading(file):
        return Sweep(
            path, tuple(content["seeds"]), dict(content["arms"]), tuple(content["unpaired"])
        )


def write_sweep(sweep: Sweep) -> None:
    """Write ``sweep.json`` whole.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    content = plain(
        {
            "schema": SCHEMA,
            "seeds": sweep.seeds,
            "arms": sweep.arms,
            "unpaired": sweep.unpaired,
        },
        "sweep",
    )
    data = json.dumps(digests.sealed(content), indent=2, allow_nan=False) + "\n"
    with writing(sweep.path / SWEEP):
        write_whole(sweep.path / SWEEP, data.encode())
