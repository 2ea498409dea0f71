"""Every rule and cure against FedAvg, over whole federations paired by seed.

    OMP_NUM_THREADS=1 python experiments/rules/compare_rules.py --data DATA --out runs/rules
    OMP_NUM_THREADS=1 python experiments/rules/compare_rules.py --data DATA --out runs/cifar \\
        --study experiments/rules/rules-cifar10.yaml --arms fedavg livar-head ccvr \\
        class-count-head livar-head-ccvr offsets-each-round fedprox

Each cell (who holds what) is a sweep, OUT/CELL, that ``fedcircuit compare`` reads too; a stopped
program goes on where it was. Rules that fit something get the discovery half of the probe, 250
images; all figures are of other test images. The program ends with a table of accuracy and
worst-class recall after the last round, in points: of FedAvg the mean and standard deviation over
seeds, of all others the mean paired difference to it with its 95 % BCa interval, and the number of
rounds that went on with the plain average because the rule could not be used.

In ``map`` three clients hold 0-2, 3-5 and 6-9; in ``dirichlet`` ten clients hold classes by
Dir(0.1); in ``iid``, where nothing may be lost, ten clients hold equal random parts.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fedcircuit.app.sweeps import Event, SweepError, parse_arms, parse_seeds, plan_sweep, run_sweep
from fedcircuit.records.sweeps import Sweep, read_sweep
from fedcircuit.report.sweeps import Compared, compared, write_sweep_report

CELLS: Mapping[str, str] = {
    "map": "partition={kind: classes, classes: [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]}",
    "dirichlet": "partition={kind: dirichlet, alpha: 0.1, clients: 10}",
    "iid": "partition={kind: iid, clients: 10}",
}
VARIANCES = "training.feature_variance={}"
BY_CLIENTS = "circuits.enabled=true,circuits.discover_on=clients"
CALIBRATION = "name: circuit-calibration, options: {rho: 0.1}, last_only: true"
COVERED = "name: covered-average, options: {lam: 0.25}"
ARMS: Mapping[str, str] = {
    "fedavg": "",
    "class-count-head": "strategy.rules=[class-count-head]",
    "livar-head": f"strategy.rules=[livar-head],{VARIANCES}",
    "livar-layers": "strategy.rules=[livar-layers],training.path_importance=true",
    "ccvr": "strategy.rules=[{name: ccvr, last_only: true}]",
    "ccvr-each-round": "strategy.rules=[ccvr]",
    "ccvr-control": "strategy.rules=[{name: ccvr, last_only: true, control: permuted-labels}]",
    "livar-head-ccvr": f"strategy.rules=[livar-head, {{name: ccvr, last_only: true}}],{VARIANCES}",
    "offsets": "strategy.rules=[{name: logit-offsets, last_only: true}]",
    "offsets-each-round": "strategy.rules=[logit-offsets]",
    "ties": "strategy.rules=[ties]",
    "weight-matching": "strategy.rules=[weight-matching]",
    "fisher": "strategy.rules=[fisher],training.fisher=true",
    "fednova": "strategy.rules=[{name: fednova, options: {momentum: 0.9}}]",
    "feddyn": "strategy.rules=[{name: feddyn, options: {alpha: 0.1}}],training.feddyn_alpha=0.1",
    "scaffold": "strategy.rules=[scaffold],training.scaffold=true",
    "fedprox": "strategy.name=fedprox,training.proximal_mu=0.1",
    "fedadam": "strategy.name=fedadam,strategy.options={eta: 0.01, tau: 0.001}",
    "fedlc": "training.objective={name: fedlc}",
    "logit-adjustment": "training.objective={name: logit-adjustment}",
    "fedrs": "training.fedrs={alpha: 0.5}",
    "feddecorr": "training.feddecorr_beta=0.1",
    "circuit-calibration": f"strategy.rules=[{{{CALIBRATION}}}],{BY_CLIENTS},circuits.every=12",
    "its-control": f"strategy.rules=[{{{CALIBRATION}, control: permuted-circuits}}],{BY_CLIENTS},"
    "circuits.every=12",
    "covered-average": f"strategy.rules=[{{{COVERED}}}],{BY_CLIENTS}",
    "covered-control": f"strategy.rules=[{{{COVERED}, control: permuted-circuits}}],{BY_CLIENTS}",
    "coverage-only": f"strategy.rules=[{{{COVERED}, control: all-units}}],{BY_CLIENTS}",
    "conflict-projection": f"strategy.rules=[conflict-projection],{BY_CLIENTS}",
}
FIGURES = ("accuracy", "worst-class recall")


def main() -> None:
    """Run what is missing, then print the table."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default=".", help="folder of the data")
    parser.add_argument("--out", type=Path, default=Path("runs/rules"), help="folder of the sweeps")
    study = here / "rules-mnist.yaml"
    parser.add_argument("--study", type=Path, default=study, help="what arms change")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--show", action="store_true", help="run nothing, show what is there")
    given = parser.parse_args()
    arms = ["fedavg", *(arm for arm in given.arms if arm != "fedavg")]
    for cell in () if given.show else given.cells:
        configs = parse_arms(
            given.study,
            [f"{arm}={ARMS[arm]}" for arm in arms],
            [f"data.root={given.data}", CELLS[cell]],
        )
        plan = plan_sweep(configs, parse_seeds(given.seeds), given.out / cell)
        try:
            run_sweep(plan, jobs=given.jobs, on_event=_say)
        except SweepError as error:  # one that diverges costs no other arm
            print(f"{cell}: {error}")
    print(table({cell: read_sweep(given.out / cell) for cell in given.cells}))


def table(sweeps: Mapping[str, Sweep]) -> str:
    """One row an arm, as Markdown, in points; of the seeds that all arms of a cell have."""
    columns: dict[str, list[str]] = {}
    for cell, sweep in sweeps.items():
        write_sweep_report(sweep)
        done = [s for s in sweep.seeds if all(sweep.finished(arm, s) for arm in sweep.arms)]
        found = compared(replace(sweep, seeds=tuple(done)))
        for figure in FIGURES:
            head = f"{cell}, {figure}, {len(done)} seeds"
            columns[head] = [_cell(found, arm, figure) for arm in sweep.arms]
    arms = list(next(iter(sweeps.values())).arms)
    lost = [str(sum(refused(sweep, arm) for sweep in sweeps.values())) for arm in arms]
    columns["rounds without it"] = lost
    lines = [f"| arm | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| `{arm}` | {' | '.join(values[row] for values in columns.values())} |"
        for row, arm in enumerate(arms)
    ]
    return "\n".join(lines)


def _cell(found: Compared, arm: str, figure: str) -> str:
    """FedAvg's mean and standard deviation; of others the paired difference and its interval."""
    first = arm == found.first
    rows = found.arms if first else found.differences
    of = rows[(rows["arm"] == arm) & (rows["figure"] == figure)].iloc[0]
    if first:
        return f"{100 * of['mean']:.1f} (sd {100 * of['sd']:.1f})"
    mean, low, high = (100 * float(of[name]) for name in ("mean", "low", "high"))
    return f"{mean:+.1f}" if low != low else f"{mean:+.1f} ({low:.1f} to {high:.1f})"


def refused(sweep: Sweep, arm: str) -> int:
    """Rounds of all seeds that went on with the plain average, as the rule could not be used."""
    runs = [sweep.finished(arm, seed) for seed in sweep.seeds]
    return sum(
        any(failure.kind == "rule" for failure in run.record(number).failures)
        for run in runs
        if run is not None
        for number in run.rounds
    )


def _say(event: Event) -> None:
    if event.kind != "round":
        print(f"{event.arm}, seed {event.seed}: {event.kind} {event.text}", flush=True)


if __name__ == "__main__":
    main()
