"""Ctrl-C and SIGTERM while a run is made: a line that says how to go on, and no traceback."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from fedcircuit.records.files import RunError
from fedcircuit.records.runs import MANIFEST, RunFolder


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


@contextmanager
def stoppable(path: Path, rounds: int, *, words: str | None = None) -> Iterator[None]:
    """Turn a stop of what is done in the block into one line and the usual exit code.

    Parameters
    ----------
    path
        The run folder, which may not be there yet.
    rounds
        Rounds that the run is to have.
    words
        What to say of the stop; None looks into the run folder.

    Raises
    ------
    SystemExit
        With 130 after Ctrl-C, 143 after SIGTERM, as a shell expects.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        ray = isinstance(stop, SystemExit) and stop.code == signal.SIGTERM  # Ray takes the signal
        if isinstance(stop, SystemExit) and not ray:
            raise
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        print(f"\n{words or how_to_go_on(path, rounds)}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(143 if ray or isinstance(stop, Terminated) else 130)
    finally:
        signal.signal(signal.SIGTERM, before)


def how_to_go_on(path: Path, rounds: int) -> str:
    """What was recorded when a run was stopped, and the command that goes on."""
    if not (path / MANIFEST).exists():
        return "stopped before anything was recorded"
    try:
        done = RunFolder(path).n_rounds - 1
    except RunError as error:
        return f"stopped; {error}"
    if done >= rounds:
        return f"stopped; all {rounds} rounds are recorded: 'fedcircuit report {path}'"
    known = f"stopped after round {done}, which is recorded" if done > 0 else "stopped in round 1"
    return f"{known}; go on with 'fedcircuit resume {path}'"


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
