"""Runs of a sweep in processes of their own: fresh ones (spawn), that end with the sweep's own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from fedcircuit.app.sweeps.one_run import Event, Task, Tell, make_run
from fedcircuit.records.files import in_short

_GRACE = 10.0  # seconds for a process that was told to end


@dataclass
class _Worker:
    process: SpawnProcess
    line: Connection
    task: Task | None = None


def in_workers(tasks: Sequence[Task], jobs: int, tell: Tell) -> None:
    """Make the runs, ``jobs`` at a time; each process makes one after the other.

    A process that dies costs the run it was making, which can be gone on with.

    Parameters
    ----------
    tasks
        In the order in which they are begun.
    jobs
        Processes.
    tell
        Called here with every event.
    """
    waiting, workers = deque(tasks), [_start() for _ in range(jobs)]
    try:
        for worker in workers:
            _next(worker, waiting)
        while busy := [worker for worker in workers if worker.task is not None]:
            ready = wait([worker.line for worker in busy])
            for worker in busy:
                if worker.line in ready:
                    _hear(worker, tell)
                    if worker.task is None:
                        if not worker.process.is_alive() and waiting:
                            fresh = _start()
                            worker.process, worker.line = fresh.process, fresh.line
                        _next(worker, waiting)
    finally:
        for worker in workers:
            _end(worker)


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,), name="fedcircuit-sweep")
    process.start()
    theirs.close()  # so that the line ends with the process
    return _Worker(process, ours)


def _next(worker: _Worker, waiting: deque[Task]) -> None:
    """Give a free worker the next task, if there is one and the worker lives."""
    if not waiting:
        return
    worker.task = waiting.popleft()
    with suppress(OSError):  # it has just died: hearing of it says so
        worker.line.send(worker.task)


def _hear(worker: _Worker, tell: Tell) -> None:
    """Pass on what a worker says; one that says no more has died."""
    assert worker.task is not None
    arm, seed = worker.task.arm, worker.task.seed
    try:
        event: Event = worker.line.recv()
    except (EOFError, OSError):
        worker.process.join(_GRACE)
        code = worker.process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        event = Event("failed", arm, seed, text=f"its process ended {how}")
    if event.kind != "round":
        worker.task = None
    tell(event)


def _end(worker: _Worker) -> None:
    """End a worker that has nothing to do, or whose sweep was stopped: a run outlives it."""
    worker.process.terminate()
    worker.process.join(_GRACE)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.line.close()


def work(line: Connection) -> None:
    """Make runs as they are asked for, until the process is ended; what a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: ours ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task: Task = line.recv()
        except EOFError:  # the sweep's own process is gone
            return
        try:
            make_run(task, line.send)
        except Exception as error:  # noqa: BLE001  # told to the sweep's own process
            line.send(Event("failed", task.arm, task.seed, text=in_short(error)))


def _end_with_parent() -> None:
    """End this process at once when the one that started it is gone, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
