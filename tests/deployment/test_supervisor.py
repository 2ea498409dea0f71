"""A supervisor over real, small processes: brought back, given up in words, stopped with all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supervisor import child_of, stop

FOLDER = Path(__file__).parents[2] / "experiments" / "deployment"
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from refusals import ending
from supervisor import Supervisor
command, log, patience = {command!r}, Path({log!r}), {patience!r}
why = lambda output: ending(output, superlink="here:1", port=2)
sys.exit(Supervisor("thing", command, {{}}, log, why, patience=patience, pause=0.1).run())
"""


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running = []

    def start(command: list[str], patience: float = 1e9) -> subprocess.Popen[str]:
        text = SCRIPT.format(
            folder=str(FOLDER), command=command, log=str(tmp_path / "thing.log"), patience=patience
        )
        running.append(
            subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
        )
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.communicate()
    stop(tmp_path / "thing.pid")


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def started(pid_file: Path) -> bool:
    return json.loads(pid_file.read_text())["child"] is not None


def test_a_supervisor_that_has_started_nothing_yet_is_stopped(tmp_path: Path) -> None:
    """Between taking the lock and noting its process a supervisor can be stopped all the same."""
    text = (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r})\nimport os, signal, time\n"
        "from pathlib import Path\nimport supervisor\n"
        f"lock = supervisor._locked(Path({str(tmp_path / 'thing.pid')!r}), 'thing')\n"
        "supervisor._note(lock, None)\nprint('locked', flush=True)\ntime.sleep(1000)"
    )
    boss = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert boss.stdout is not None
    assert boss.stdout.readline() == "locked\n"
    with pytest.raises(ProcessLookupError, match="nothing was started yet"):
        child_of(tmp_path / "thing.pid")
    assert stop(tmp_path / "thing.pid")
    assert boss.wait(30) == -signal.SIGTERM
    boss.communicate()


SLEEPER = ["sh", "-c", "sleep 1000 & echo ready; wait"]


def test_a_killed_process_comes_back_and_a_stop_ends_all_it_started(
    tmp_path: Path, supervise: Callable[..., subprocess.Popen[str]]
) -> None:
    pid_file, log = tmp_path / "thing.pid", tmp_path / "thing.log"
    boss = supervise(SLEEPER)
    until(lambda: log.exists() and log.read_text().count("ready") == 1)
    until(lambda: started(pid_file))
    first = child_of(pid_file)
    os.kill(first, signal.SIGKILL)
    until(lambda: log.read_text().count("ready") == 2)
    until(lambda: child_of(pid_file) != first)
    second = child_of(pid_file)
    assert alive(second)
    group = subprocess.run(
        ["ps", "-o", "pid=", "-g", str(second)], capture_output=True, text=True, check=False
    ).stdout.split()

    assert stop(pid_file)

    assert boss.wait(30) == 0
    assert not any(alive(int(pid)) for pid in (str(second), *group))
    said = boss.stdout.read() if boss.stdout else ""
    assert "thing: it ended; its last words: ready; trying again" in said
    assert said.rstrip().endswith("thing: stopped")
    assert not stop(pid_file)


def test_a_process_without_its_supervisor_is_stopped_too(
    tmp_path: Path, supervise: Callable[..., subprocess.Popen[str]]
) -> None:
    boss = supervise(SLEEPER)
    log = tmp_path / "thing.log"
    until(lambda: log.exists() and "ready" in log.read_text())
    until(lambda: started(tmp_path / "thing.pid"))
    child = child_of(tmp_path / "thing.pid")
    boss.kill()
    boss.wait()
    assert alive(child)
    assert stop(tmp_path / "thing.pid")
    until(lambda: not alive(child))


def test_another_process_with_the_noted_number_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "1000"])
    noted = {"supervisor": 1, "child": other.pid, "started": "Thu Jan  1 00:00:00 1970"}
    (tmp_path / "thing.pid").write_text(json.dumps(noted))
    assert not stop(tmp_path / "thing.pid")
    assert other.poll() is None
    other.kill()
    other.wait()


def test_two_supervisors_of_one_process_are_refused(
    tmp_path: Path, supervise: Callable[..., subprocess.Popen[str]]
) -> None:
    supervise(SLEEPER)
    log = tmp_path / "thing.log"
    until(lambda: log.exists() and "ready" in log.read_text())
    second = supervise(SLEEPER)
    assert second.wait(30) == 1
    assert log.read_text().count("ready") == 1


@pytest.mark.parametrize(
    ("says", "patience", "words"),
    [
        ("refused, code: 2001", 1e9, "key refused: the SuperLink takes registered keys only"),
        ("Connection refused", 0.0, "the SuperLink at here:1 does not answer"),
    ],
)
def test_what_cannot_pass_by_itself_or_lasts_too_long_ends_it(
    supervise: Callable[..., subprocess.Popen[str]], says: str, patience: float, words: str
) -> None:
    boss = supervise(["echo", says], patience)
    assert boss.wait(30) == 1
    assert words in (boss.stdout.read() if boss.stdout else "")
