"""Runs a study of the information plane with several splits and averaging periods, seed by seed.

    cd experiments/information_plane && python reference.py szt.yaml --seeds 3 --out ../../runs/szt

All periods take the same number of steps in all, that of the study (rounds times steps), and every
client trains on the same mini-batches in each of them; they differ in when clients are averaged.
A sweep: every run is a folder OUT/SPLIT-PERIOD/seedN; finished ones are left as they are, stopped
ones are gone on with, or made again where clients would have forgotten the state of their
optimisers. The table at the end is made by experiments/information_plane/table.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import yaml

from fedcircuit.app.config import load_study
from fedcircuit.app.sweeps import Event, parse_arms, plan_sweep, run_sweep

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that run the arms

SPLITS = {
    "iid": {"kind": "iid"},
    "sorted": {"kind": "sorted"},
    "dir0.5": {"kind": "dirichlet", "alpha": 0.5},
    "dir0.1": {"kind": "dirichlet", "alpha": 0.1},
}
NEVER = "never"  # one average, after the last step


def main() -> None:
    """Run what is missing, then print the table."""
    options = _options()
    arms = parse_arms(options.study, arms_of(options), options.set)
    # splits are compared too, and clients of different splits hold different samples
    plan = plan_sweep(arms, range(options.seeds), options.out, unpaired=True)
    start = time.perf_counter()

    def tell(event: Event) -> None:
        if event.kind != "round":
            what = f"{event.arm}, seed {event.seed} {event.kind} {event.text}"
            print(f"{time.perf_counter() - start:6.0f} s  {what}", flush=True)

    run_sweep(
        plan, jobs=options.jobs, on_event=tell,
        on_start=lambda n: print(f"{n} runs are there, {len(plan.tasks) - n} to go", flush=True),
    )  # fmt: skip
    from table import print_table

    print_table(options.out)


def arms_of(options: argparse.Namespace) -> list[str]:
    """Every split with every period, as arms of the study."""
    plain = load_study(options.study, options.set)
    training = plain.training
    if training.steps is None:
        raise SystemExit(f"{options.study} must give training.steps, which periods replace")
    arms = []
    for split in options.splits.split(","):
        partition = yaml.safe_dump(
            {"clients": plain.n_clients, **SPLITS[split]}, default_flow_style=True
        ).strip()
        for period in options.periods.split(","):
            rounds, steps = lengths(training.rounds * training.steps, period)
            arms.append(
                f"{split}-{period}=training.rounds={rounds},training.steps={steps},"
                f"partition={partition}"
            )
    return arms


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
