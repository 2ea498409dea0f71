"""One run of a sweep: made, gone on with, or made again."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedcircuit.app.config import parse_study
from fedcircuit.app.study import forgotten, resume_run, round_line, run_study
from fedcircuit.records.files import LockedError, RunError
from fedcircuit.records.rounds import RoundRecord
from fedcircuit.records.runs import MANIFEST, Run, RunStore

logger = logging.getLogger(__name__)

PATIENCE = 20.0  # seconds for a process that was told to end, and still holds the run


@dataclass(frozen=True)
class Task:
    """One run that is to be made."""

    arm: str
    seed: int
    path: Path
    config: dict[str, Any]


@dataclass(frozen=True)
class Event:
    """What has come of a run: a round is recorded, all are, or it failed for a reason."""

    kind: Literal["round", "done", "failed"]
    arm: str
    seed: int
    round: int = 0
    text: str = ""


Tell = Callable[[Event], None]


def make_run(task: Task, tell: Tell) -> None:
    """Run the task's study to its end, from where it stopped if it was begun.

    Where clients would have forgotten what they remember from round to round, an unfinished run is
    deleted and made again: going on would give other rounds than an undisturbed run.

    Parameters
    ----------
    task
        The run.
    tell
        Called after every recorded round, and at the end.

    Raises
    ------
    Exception
        Whatever a run raises.
    """
    config = parse_study(task.config, [f"seed={task.seed}"], where=f"arm {task.arm!r}")
    n_rounds = config.training.rounds

    def on_round(record: RoundRecord) -> None:
        if record.round:
            line = round_line(record, n_rounds)
            tell(Event("round", task.arm, task.seed, record.round, line))

    def go() -> Path:
        begun = (task.path / MANIFEST).exists()
        if begun and forgotten(config):
            logger.warning(
                "%s is made again: its clients forgot %s when it stopped",
                task.path, " and ".join(forgotten(config)),
            )  # fmt: skip
            _remove(task.path)
            begun = False
        if not begun:
            return run_study(config, task.path, on_round=on_round)
        if len(Run.load(task.path).rounds) >= n_rounds:
            return task.path
        return resume_run(task.path, on_round=on_round)

    patiently(go)
    tell(Event("done", task.arm, task.seed, n_rounds))


def patiently(do: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Do something with a run, waiting for a process that still holds it to end.

    Raises
    ------
    RunError
        If another process holds the run for longer.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            do()
            return
        except RunError as error:
            if not isinstance(error.__cause__, LockedError) or time.monotonic() > end:
                raise
            time.sleep(0.05)


def _remove(path: Path) -> None:
    """Delete an unfinished run, so that a kill on the way leaves none that seems begun."""
    RunStore.open(path).close()  # refuses where another process still writes it
    aside = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)
