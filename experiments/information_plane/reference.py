"""Runs a study of the information plane with several splits and averaging periods, seed by seed.

    cd experiments/information_plane && python reference.py szt.yaml --seeds 3 --out ../../runs/szt

All periods take the same number of steps in all, that of the study (rounds times steps), and every
client trains on the same mini-batches in each of them; they differ in when clients are averaged.
Every run is a folder OUT/SPLIT-PERIOD/seedN. It is written beside its place and moved there when it
is complete, so runs that are there are left as they are and a stopped program goes on where it was.
The table at the end is made by experiments/information_plane/table.py, from the folders alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))

SPLITS = {
    "iid": {"kind": "iid"},
    "sorted": {"kind": "sorted"},
    "dir0.5": {"kind": "dirichlet", "alpha": 0.5},
    "dir0.1": {"kind": "dirichlet", "alpha": 0.1},
}
NEVER = "never"  # one average, after the last step


@dataclass(frozen=True)
class Task:
    """One run."""

    study: Path
    out: Path
    split: str
    period: str
    seed: int
    settings: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.out / f"{self.split}-{self.period}" / f"seed{self.seed}"


def main() -> None:
    """Run what is missing, then print the table."""
    options = _options()
    tasks = [
        Task(options.study, options.out, split, period, seed, tuple(options.set))
        for seed in range(options.seeds)
        for split in options.splits.split(",")
        for period in options.periods.split(",")
    ]
    missing = [task for task in tasks if not task.path.exists()]
    print(f"{len(tasks) - len(missing)} runs are there, {len(missing)} to go", flush=True)
    start = time.perf_counter()
    # fresh processes: torch threads and data are their own, and order does not matter
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for done in pool.imap_unordered(run, missing):
            print(f"{time.perf_counter() - start:6.0f} s  {done}", flush=True)
    from table import print_table

    print_table(options.out)


def run(task: Task) -> str:
    """Make one run, and say which."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from fedcircuit.app.config import load_study
    from fedcircuit.app.study import run_study

    plain = load_study(task.study, task.settings)
    training = plain.training
    if training.steps is None:
        raise SystemExit(f"{task.study} must give training.steps, which periods replace")
    rounds, steps = lengths(training.rounds * training.steps, task.period)
    split = {"clients": plain.n_clients, **SPLITS[task.split]}
    config = load_study(
        task.study,
        [
            *task.settings,
            f"seed={task.seed}",
            f"training.rounds={rounds}",
            f"training.steps={steps}",
            "partition=" + yaml.safe_dump(split, default_flow_style=True).strip(),
        ],
    )
    unfinished = task.path.with_name(f"{task.path.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)  # clients have forgotten their optimisers: start again
    run_study(config, unfinished)
    unfinished.rename(task.path)
    return f"{task.split}, period {task.period}, seed {task.seed}"


def lengths(total: int, period: str) -> tuple[int, int]:
    """Rounds, and steps of a round, that make the total."""
    steps = total if period == NEVER else int(period)
    if steps < 1 or total % steps:
        raise SystemExit(f"a period of {steps} steps does not divide the study's {total} steps")
    return total // steps, steps


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1")
    parser.add_argument("--splits", default="iid,sorted", help="of " + ", ".join(SPLITS))
    parser.add_argument("--periods", default=f"1,160,800,{NEVER}",
                        help=f"steps between averages, or {NEVER}")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder of all runs; default runs/STUDY")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--set", action="append", default=[], help="as for fedcircuit run")
    options = parser.parse_args()
    options.out = options.out or Path("runs") / options.study.stem
    unknown = [split for split in options.splits.split(",") if split not in SPLITS]
    if unknown:
        parser.error(f"unknown splits {unknown}; known: {', '.join(SPLITS)}")
    periods = [period for period in options.periods.split(",") if period != NEVER]
    if not all(period.isdigit() for period in periods):
        parser.error(f"periods must be numbers of steps or {NEVER}, got {options.periods}")
    return options


if __name__ == "__main__":
    main()
