"""Studies killed with SIGKILL and resumed, again and again, against one that nobody disturbed.

    python killed_studies.py [--kills 300] [--strategies fedavg,fedadam,lips] [--seed 0]

A study of six rounds runs in a process of its own, is killed at a random moment, half of the time
right after a file of the run has appeared or changed, and is resumed; killed again, until it has
come to its end. Then every array (weights, strategy state, each client's weights, masks), metric
and table must be, bit for bit, that of the undisturbed run. The exit code is 1 if a kill cost a
recorded round, a resume failed, or an end differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "deployment"))
from reference import differences

from fedcircuit import Run
from fedcircuit.app.config import StudyConfig
from fedcircuit.app.study import resume_run, run_study
from fedcircuit.records.files import RunError

STRATEGIES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedadam": {"name": "fedadam"},
    "lips": {"lips": {"d0": 0.5}},
}
ROUNDS = 6


@dataclass
class Tally:
    """What came of the kills of one strategy."""

    kills: int = 0
    ends: int = 0
    lost: int = 0  # recorded rounds that a kill took away
    wrong: int = 0  # ends that differ, resumes that failed


def study(strategy: dict[str, Any]) -> StudyConfig:
    """Three clients, an MLP, its circuits in every third round."""
    return StudyConfig.model_validate({
        "name": "killed", "partition": {"kind": "iid", "clients": 3},
        "model": {"name": "mlp", "widths": [64, 32]},
        "training": {"rounds": ROUNDS, "epochs": 1}, "circuits": {"every": 3},
        "strategy": strategy,
    })  # fmt: skip


def begin(do: Callable[[], object], log: Path) -> int:
    """Do something in a forked process; its number."""
    with warnings.catch_warnings():  # Python 3.12 warns of threads; the child starts none
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        do()
        code = 0
    except BaseException as error:  # noqa: BLE001  # told in the log, as the process ends here
        os.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(code)


def recorded(path: Path) -> int:
    """Rounds that are recorded by now."""
    try:
        return len(Run.load(path).rounds)
    except RunError:
        return 0


def wait_for_moment(child: int, path: Path, span: float, rng: random.Random) -> bool:
    """Wait for the moment to kill; False where the process came to its end before."""
    end, on_change = time.monotonic() + rng.uniform(0.0, span), rng.random() < 0.5
    before: list[Path] | None = None
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= end:
            rounds = path / "rounds"
            now = sorted(rounds.iterdir()) if rounds.exists() else []
            if not on_change or (before is not None and now != before):
                time.sleep(rng.uniform(0.0, 0.004) if on_change else 0.0)
                return True
            before = now
        time.sleep(0.0005)
    return False


def to_its_end(config: StudyConfig, path: Path, span: float, rng: random.Random) -> Tally:
    """Run, kill, resume until the study has all its rounds."""
    tally, log = Tally(), path.with_suffix(".log")
    while True:
        known = recorded(path)
        if known == ROUNDS:
            return tally
        child = begin(lambda: go_on(config, path), log)
        killed = wait_for_moment(child, path, span, rng)
        if killed:
            os.kill(child, signal.SIGKILL)
            tally.kills += 1
        _, status = os.waitpid(child, 0)
        tally.lost += recorded(path) < known
        if not killed and status:
            print(f"{path}: {log.read_text(errors='replace')[-500:]}")
            tally.wrong += 1
            return tally


def go_on(config: StudyConfig, path: Path) -> None:
    """Resume the run in a folder, or begin it."""
    if (path / "manifest.json").exists():
        resume_run(path)
    else:
        run_study(config, path)


def kill_many(name: str, folder: Path, kills: int, seed: int) -> Tally:
    """Kill studies of one strategy; what came of it."""
    config, whole = study(STRATEGIES[name]), folder / "whole"
    start = time.monotonic()
    _, status = os.waitpid(begin(lambda: run_study(config, whole), folder / "log"), 0)
    if status:
        raise RuntimeError((folder / "log").read_text(errors="replace")[-2000:])
    span = time.monotonic() - start
    total, rng = Tally(), random.Random(f"{seed}:{name}")
    while total.kills < kills:
        path = folder / f"run-{total.ends}"
        one = to_its_end(config, path, span, rng)
        total.kills, total.lost = total.kills + one.kills, total.lost + one.lost
        total.wrong, total.ends = total.wrong + one.wrong, total.ends + 1
        if one.wrong:
            continue
        differ = differences(path, whole)
        if differ:
            print(f"{path} differs: {differ[:3]}")
            total.wrong += 1
    return total


def main() -> int:
    """Kill studies of every strategy, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # what it imports is imported once, not after every fork
    names, bad = options.strategies.split(","), 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            tally = kill_many(name, Path(folder), -(-options.kills // len(names)), options.seed)
        print(
            f"{name}: {tally.kills} kills, {tally.ends} studies came to their end, {tally.lost} "
            f"recorded rounds lost, {tally.wrong} ends that differ or failed",
            flush=True,
        )
        bad += tally.lost + tally.wrong
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
