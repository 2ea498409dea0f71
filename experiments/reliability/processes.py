"""The processes of a deployment, and what is done to them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from layout import Deployment
from supervisor import child_of

HELD_SECONDS = 55.0  # longer than a round may take; Flower ends an app that is silent for a minute
FIND_SECONDS = 40.0  # for a process that comes and goes


def kill_node(deployment: Deployment, rng: random.Random) -> str:
    """Kill a SuperNode; its supervisor brings it back."""
    index = rng.randrange(deployment.n_nodes)
    return _kill(child_of(deployment.node(index) / "supernode.pid"), f"SuperNode {index}")


def kill_superlink(deployment: Deployment, rng: random.Random) -> str:
    """Kill the SuperLink; its supervisor brings it back."""
    return _kill(child_of(deployment.server / "superlink.pid"), "SuperLink")


def kill_serverapp(deployment: Deployment, rng: random.Random) -> str:
    """Kill the ServerApp that is at work."""
    found = _wait_for(deployment.server / "superlink.pid", "flwr-serverapp")
    return "no ServerApp was found" if found is None else _kill(found, "ServerApp")


def hold_client(deployment: Deployment, rng: random.Random) -> str:
    """Hold a client's process for longer than a round may take, then let it go on."""
    index = rng.randrange(deployment.n_nodes)
    for _ in range(3):
        found = _wait_for(deployment.node(index) / "supernode.pid", "flwr-clientapp", new=True)
        if found is None:
            return "no ClientApp was found"
        if _held(found):
            return f"ClientApp {index} was held for {HELD_SECONDS:g} s"
    return f"ClientApp {index} ended first, three times"


def let_sleep(deployment: Deployment, rng: random.Random) -> str:
    """Hold all processes of a device while its client is at work, then let them go on."""
    index = rng.randrange(deployment.n_nodes)
    pid_file = deployment.node(index) / "supernode.pid"
    if _wait_for(pid_file, "flwr-clientapp", new=True) is None:
        return "no ClientApp was found"
    processes = {child_of(pid_file), *_below(child_of(pid_file))}
    _signal(processes, signal.SIGSTOP)
    time.sleep(HELD_SECONDS)
    _signal(processes, signal.SIGCONT)
    return f"device {index} was asleep for {HELD_SECONDS:g} s"


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _held(pid: int) -> bool:
    """Hold a process; False where it ended before its time was over."""
    try:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(HELD_SECONDS)
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return False
    return True


FAULTS: dict[str, Callable[[Deployment, random.Random], str]] = {
    "node": kill_node,
    "straggler": hold_client,
    "asleep": let_sleep,
    "serverapp": kill_serverapp,
    "superlink": kill_superlink,
}


def memory(deployment: Deployment) -> dict[str, float]:
    """MiB of the SuperLink and of the SuperNodes, without what they start."""
    files = {"superlink": deployment.server / "superlink.pid"}
    for index in range(deployment.n_nodes):
        files[f"node {index}"] = deployment.node(index) / "supernode.pid"
    return {name: _resident(child_of(file)) for name, file in files.items()}


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except FileNotFoundError:
        return float("nan")
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def _kill(pid: int, name: str) -> str:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return f"{name} was not running"
    return f"{name} killed"


def _wait_for(pid_file: Path, word: str, *, new: bool = False) -> int | None:
    """A process below a supervised one with this word in its command, once there is one.

    With ``new`` one that was not there at first: another may have done its work already.
    """
    end = time.monotonic() + FIND_SECONDS
    before = set(_below(child_of(pid_file))) if new else set()
    while time.monotonic() < end:
        for pid, words in _below(child_of(pid_file)).items():
            if word in words and pid not in before:
                return pid
        time.sleep(0.1)
    return None


def _below(root: int) -> dict[int, str]:
    """All that a process has started, and what that has started: number and command."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    below = {root}
    for _ in range(6):  # generations
        below |= {int(row[0]) for row in rows if int(row[1]) in below}
    return {int(row[0]): row[2] for row in rows if int(row[0]) in below - {root} and len(row) == 3}
