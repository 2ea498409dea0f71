"""Runs a study with several downloads on the same data and initial weights, seed by seed.

    python experiments/lips/paired.py experiments/lips/mnist-mlp.yaml --data DATA --seeds 6

A sweep: every run is a folder OUT/ARM/seedN, finished ones are left as they are and stopped ones
are gone on with, or made again where clients would have forgotten something. The first table at the
end is that of 'fedcircuit compare OUT', the others are made by experiments/lips/table.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import yaml

from fedcircuit.app.sweeps import Event, parse_arms, plan_sweep, run_sweep
from fedcircuit.report.sweeps import sweep_text, write_sweep_report

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that run the arms

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
    """Run what is missing, then print the tables."""
    options = _options()
    chosen = [f"{arm}=strategy.lips={_flow(ARMS[arm])}" for arm in options.arms.split(",")]
    arms = parse_arms(options.study, chosen, [f"data.root={options.data}", *options.set])
    plan = plan_sweep(arms, range(options.seeds), options.out)
    start = time.perf_counter()

    def tell(event: Event) -> None:
        if event.kind != "round":
            what = f"{event.arm}, seed {event.seed} {event.kind} {event.text}"
            print(f"{time.perf_counter() - start:6.0f} s  {what}", flush=True)

    sweep = run_sweep(
        plan, jobs=options.jobs, on_event=tell,
        on_start=lambda n: print(f"{n} runs are there, {len(plan.tasks) - n} to go", flush=True),
    )  # fmt: skip
    page, found = write_sweep_report(sweep)
    print(f"\n{sweep_text(found)}\npage: {page}")
    from table import print_table

    print_table(options.out)


def _flow(values: dict[str, object] | None) -> str:
    return yaml.safe_dump(values, default_flow_style=True).replace("...", "").strip()


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
