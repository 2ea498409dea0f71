"""Runs a study with several downloads on the same data and initial weights, seed by seed.

    python experiments/lips/paired.py experiments/lips/mnist-mlp.yaml --data DATA --seeds 6

Every run is a folder OUT/ARM/seedN; runs that are there already are left as they are, so a stopped
program goes on where it was. The table at the end is made by experiments/lips/table.py, from the
folders alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))

ARMS = {
    "fedavg": None,
    "off": {"d0": 1.0},  # must equal fedavg, bit for bit
    "magnitude": {"score": "magnitude"},
    "magnitude-0.3": {"score": "magnitude", "d0": 0.3},
    "magnitude-0.1": {"score": "magnitude", "d0": 0.1},
    "sensitivity": {"score": "sensitivity"},
    "sensitivity-0.8": {"score": "sensitivity", "d0": 0.8},
    "random": {"score": "random"},
    "low": {"score": "low"},
}


def main() -> None:
    """Run what is missing, then print the table."""
    options = _options()
    tasks = [
        (options.study, options.out / arm / f"seed{seed}", arm, seed, options.data, options.set)
        for seed in range(options.seeds)
        for arm in options.arms.split(",")
    ]
    missing = [task for task in tasks if not (task[1] / "manifest.json").exists()]
    print(f"{len(tasks) - len(missing)} runs are there, {len(missing)} to go", flush=True)
    start = time.perf_counter()
    # fresh processes: torch threads and data are their own, and order does not matter
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for done in pool.imap_unordered(_run, missing):
            print(f"{time.perf_counter() - start:6.0f} s  {done}", flush=True)
    from table import print_table

    print_table(options.out)


def _run(task: tuple[Path, Path, str, int, Path, list[str]]) -> str:
    study, path, arm, seed, data, extra = task
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from fedcircuit.app.config import load_study
    from fedcircuit.app.study import run_study

    lips = yaml.safe_dump(ARMS[arm], default_flow_style=True).strip() if ARMS[arm] else "null"
    settings = [f"seed={seed}", f"data.root={data}", f"strategy.lips={lips}", *extra]
    run_study(load_study(study, settings), path)
    return f"{arm}, seed {seed}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the study's data.root")
    parser.add_argument("--seeds", type=int, default=6, help="seeds 0 to N - 1")
    parser.add_argument("--arms", default="fedavg,magnitude,sensitivity,random",
                        help="of " + ", ".join(ARMS))  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder of all runs; default runs/STUDY")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--set", action="append", default=[], help="as for fedcircuit run")
    options = parser.parse_args()
    options.out = options.out or Path("runs") / options.study.stem
    unknown = [arm for arm in options.arms.split(",") if arm not in ARMS]
    if unknown:
        parser.error(f"unknown arms {unknown}; known: {', '.join(ARMS)}")
    return options


if __name__ == "__main__":
    main()
