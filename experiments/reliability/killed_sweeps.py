"""A sweep killed with SIGKILL at random moments and gone on with, against one nobody disturbed.

    python experiments/reliability/killed_sweeps.py [--kills 20] [--jobs 2] [--seed 0]

A sweep of 2 arms x 3 seeds runs by the command line in a process of its own and is killed at a
random moment; the same command goes on, and is killed again, until a sweep has come to its end;
then the next one begins, until there were as many kills as asked for. Every table of every end
must be, bit for bit, that of the undisturbed sweep, but for the seconds, which are those of a
clock; so must the global weights of every round of every run. The exit code is 1 if an end differs
or the command fails.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fedcircuit import Run
from fedcircuit.records.sweeps import read_sweep
from fedcircuit.report.sweeps import compared

STUDY = """\
name: tiny
data: {name: digits, train_limit: 400, test_limit: 300}
partition: {kind: dirichlet, clients: 4, alpha: 0.3}
model: {name: mlp, widths: [24, 16]}
training: {rounds: 4, epochs: 3, batch_size: 20, lr: 0.2}
strategy: {fraction_train: 0.75}
circuits: {probe_per_class: 8, controls: 2}
"""
ARMS = ("--arm", "fedavg=", "--arm", "adam=strategy.name=fedadam,strategy.options={eta: 0.03}")
SEEDS = "0-2"


@dataclass
class Tally:
    """What came of the kills."""

    kills: int = 0
    begun: int = 0  # kills that left a run with some of its rounds
    ends: int = 0
    wrong: int = 0  # ends that differ, commands that failed


def command(study: Path, out: Path, jobs: int) -> list[str]:
    """What is killed, and started again."""
    words = [sys.executable, "-m", "fedcircuit", "sweep", str(study), "--seeds", SEEDS, *ARMS]
    return [*words, "--out", str(out), "--jobs", str(jobs), "--quiet"]


def tables(folder: Path) -> dict[str, str]:
    """Every table of a sweep as exact text, without seconds."""
    found = compared(read_sweep(folder))
    frames = {
        "runs": found.runs.drop(columns="seconds"),
        "arms": found.arms[found.arms["figure"] != "seconds"],
        "differences": found.differences[found.differences["figure"] != "seconds"],
    }
    # repr of a float is exact
    texts = {name: repr(frame.to_numpy(dtype=object).tolist()) for name, frame in frames.items()}
    return {**texts, "left out": repr((found.unfinished, found.broken))}


def differences(folder: Path, whole: Path) -> list[str]:
    """Tables, partitions and weights in which two finished sweeps differ."""
    ours, theirs = tables(folder), tables(whole)
    found = [name for name in theirs if ours[name] != theirs[name]]
    sweep, other = read_sweep(folder), read_sweep(whole)
    for arm, seed in other.tasks:
        one, two = Run.load(sweep.run_path(arm, seed)), Run.load(other.run_path(arm, seed))
        same = one.partition == two.partition and all(
            one.weights(number)[name].tobytes() == values.tobytes()
            for number in (0, *two.rounds)
            for name, values in two.weights(number).items()
        )
        found += [] if same else [f"{arm}/seed{seed}"]
    return found


def some_begun(folder: Path) -> bool:
    """Whether a run has some of its rounds and not all."""
    sweep = read_sweep(folder) if (folder / "sweep.json").exists() else None
    return sweep is not None and any(
        0 < len(list((sweep.run_path(arm, seed) / "rounds").glob("[0-9]*"))) <= sweep.rounds(arm)
        for arm, seed in sweep.tasks
    )


def kill_many(folder: Path, kills: int, jobs: int, seed: int) -> Tally:
    """Kill sweeps at random moments and go on with them, until each has come to its end."""
    study, whole = folder / "study.yaml", folder / "whole"
    study.write_text(STUDY, encoding="utf-8")
    start = time.monotonic()
    subprocess.run(command(study, whole, jobs), check=True, capture_output=True)
    span, tally, rng = time.monotonic() - start, Tally(), random.Random(seed)
    while tally.kills < kills:
        out = folder / f"sweep-{tally.ends}"
        while tally.kills < kills:
            process = subprocess.Popen(
                command(study, out, jobs), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            try:
                _, said = process.communicate(timeout=rng.uniform(0.0, span))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                tally.kills += 1
                tally.begun += some_begun(out)
                continue
            if process.returncode:
                print(said.decode(errors="replace")[-1000:])
                tally.wrong += 1
            break
        subprocess.run(command(study, out, jobs), check=True, capture_output=True)
        tally.ends += 1
        differ = differences(out, whole)
        if differ:
            print(f"{out} differs: {differ}")
            tally.wrong += 1
    return tally


def main() -> int:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_many(Path(folder), options.kills, options.jobs, options.seed)
    print(
        f"{tally.kills} kills, {tally.begun} of them with a run half done; {tally.ends} sweeps "
        f"came to their end, {tally.wrong} ends that differ or commands that failed"
    )
    return int(tally.wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
