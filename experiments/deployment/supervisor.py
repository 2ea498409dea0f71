"""Keeps one process alive: starts it again when it ends, until it is told to stop."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from refusals import Ending

STOP_SECONDS = 15.0  # for a process to leave by itself
_TAIL = 8192  # bytes of output read for the reason of an ending
_NOTE_BYTES = 256  # more than the numbers of two processes and a date take
_LOG_BYTES = 50_000_000  # a longer log starts anew; one old one is kept


@dataclass
class Supervisor:
    """One process and how it is kept alive.

    Parameters
    ----------
    name
        For messages.
    command, environment
        What is started.
    log
        File that gets its output.
    why
        Its last output as a reason.
    patience
        Seconds after which a reason that may pass by itself is final, counted from when it was
        first seen without a minute of work between.
    pause
        Seconds between an ending and the next start.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    why: Callable[[str], Ending]
    patience: float = float("inf")
    pause: float = 5.0
    _stop: Event = field(default_factory=Event)
    _child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Keep the process alive until SIGTERM or SIGINT (0), or until it cannot live (1).

        Raises
        ------
        RuntimeError
            If another supervisor looks after the same process.
        """
        lock = _locked(self.log.with_suffix(".pid"), self.name)
        _note(lock, None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        refused_since: float | None = None
        try:
            while not self._stop.is_set():
                started = time.monotonic()
                output = self._once(lock)
                if self._stop.is_set():
                    break
                reason, now = self.why(output), time.monotonic()
                if now - started > 60 or refused_since is None:
                    refused_since = now
                final = reason.final or now - refused_since > self.patience
                say(f"{self.name}: {reason.words}" + ("" if final else "; trying again"))
                if final:
                    return 1
                self._stop.wait(self.pause)
        finally:
            end(self._child)
            os.close(lock)
        say(f"{self.name}: stopped")
        return 0

    def _once(self, lock: int) -> str:
        """Start it, wait for its end or for ours; the last it printed."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self.log.open("ab") as file:
            begin = file.tell()
            self._child = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.log.parent,
                start_new_session=True,
            )
        _note(lock, self._child.pid)
        while self._child.poll() is None and not self._stop.wait(0.2):
            pass
        end(self._child)
        with self.log.open("rb") as file:
            file.seek(max(begin, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().decode(errors="replace")


def end(child: subprocess.Popen[bytes] | None) -> None:
    """End a process and all that it started: asked first, then killed."""
    if child is None:
        return
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    try:
        os.killpg(child.pid, signal.SIGKILL)  # what it left behind
    except ProcessLookupError:
        return


def stop(pid_file: Path) -> bool:
    """Stop a supervisor and its process; False where none was running."""
    try:
        noted = json.loads(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return False
    if _is_locked(pid_file):
        os.kill(noted["supervisor"], signal.SIGTERM)
        limit = time.monotonic() + STOP_SECONDS + 5
        while _is_locked(pid_file) and time.monotonic() < limit:
            time.sleep(0.1)
    elif not _still_runs(noted):
        return False
    if _still_runs(noted):  # its supervisor was killed, or did not manage
        os.killpg(noted["child"], signal.SIGKILL)
    return True


def running(pid_file: Path) -> bool:
    """Whether a supervisor holds this file."""
    return pid_file.exists() and _is_locked(pid_file)


def child_of(pid_file: Path) -> int:
    """Process id of what a supervisor keeps alive at the moment.

    Raises
    ------
    ProcessLookupError
        If it has started nothing yet.
    """
    child = json.loads(pid_file.read_text())["child"]
    if child is None:
        raise ProcessLookupError(f"nothing was started yet, see {pid_file}")
    return int(child)


def say(text: str) -> None:
    """A line for the person or the log, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _locked(pid_file: Path, name: str) -> int:
    """The pid file, locked as long as this process lives."""
    descriptor = os.open(pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RuntimeError(f"{name} is running already, see {pid_file}") from error
    return descriptor


def _is_locked(pid_file: Path) -> bool:
    with pid_file.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _note(lock: int, child: int | None) -> None:
    """Write who runs, in one piece of fixed length: a reader never finds half of it."""
    started = "" if child is None else _started(child)
    data = json.dumps({"supervisor": os.getpid(), "child": child, "started": started})
    os.pwrite(lock, data.ljust(_NOTE_BYTES).encode(), 0)


def _still_runs(noted: Mapping[str, object]) -> bool:
    """Whether the very process that was noted still runs: numbers are used again."""
    if noted["child"] is None:
        return False
    started = _started(int(str(noted["child"])))
    return started != "" and started == noted["started"]


def _started(pid: int) -> str:
    """When a process was started, as the system tells; empty where there is none."""
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:  # a container without ps: nothing else is supervised there
        return ""
