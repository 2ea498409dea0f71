"""Runs what is missing of a sweep, in this process or in several at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedcircuit.app.sweeps.one_run import Event, Task, Tell, make_run
from fedcircuit.app.sweeps.workers import in_workers
from fedcircuit.records.files import in_short, lock, locked, writing
from fedcircuit.records.sweeps import Sweep, write_sweep

logger = logging.getLogger(__name__)


class SweepError(RuntimeError):
    """Runs of a sweep that failed, each with its reason; the others are done."""


def run_sweep(
    sweep: Sweep,
    *,
    jobs: int = 1,
    on_event: Tell | None = None,
    on_start: Callable[[int], None] | None = None,
) -> Sweep:
    """Make every run that is not finished: new ones, and stopped ones from where they stopped.

    A run that fails costs no other.

    Parameters
    ----------
    sweep
        From `plan_sweep`.
    jobs
        Runs at a time; 1 runs them in this process, more in as many processes of their own.
    on_event
        Told of every recorded round and every end.
    on_start
        Given the number of runs that are finished already.

    Raises
    ------
    SweepError
        If runs failed; each is named with its reason.
    RunError
        If another process runs the sweep, or its folder holds something else.
    ValueError
        If jobs is below 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    failed: list[Event] = []

    def tell(event: Event) -> None:
        if event.kind == "failed":
            failed.append(event)
        if on_event is not None:
            on_event(event)

    with _written(sweep):
        tasks = [
            Task(arm, seed, sweep.run_path(arm, seed), dict(sweep.arms[arm]))
            for arm, seed in sweep.tasks
            if sweep.finished(arm, seed) is None
        ]
        if on_start is not None:
            on_start(len(sweep.tasks) - len(tasks))
        if jobs == 1:
            _here(tasks, tell)
        else:
            in_workers(tasks, min(jobs, max(len(tasks), 1)), tell)
    if failed:
        lines = "\n".join(f"  {e.arm}, seed {e.seed}: {e.text}" for e in failed)
        raise SweepError(
            f"{len(failed)} of {len(sweep.tasks)} runs of {sweep.path} failed:\n{lines}\n"
            "The others are done; the same command tries the failed ones again"
        )
    return sweep


@contextmanager
def _written(sweep: Sweep) -> Iterator[None]:
    """The folder with its ``sweep.json``, locked for this process."""
    with writing(sweep.path):
        sweep.path.mkdir(parents=True, exist_ok=True)
    key = locked(sweep.path)
    try:
        write_sweep(sweep)
        yield
    finally:
        lock.release(key)


def _here(tasks: list[Task], tell: Tell) -> None:
    for task in tasks:
        try:
            make_run(task, tell)
        except Exception as error:
            logger.debug("arm %s, seed %d failed", task.arm, task.seed, exc_info=True)
            tell(Event("failed", task.arm, task.seed, text=in_short(error)))
