"""The server: it has no data; it averages, records, and compares the circuits clients send."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from deployed_app.task import CIRCUITS, N_CLASSES, example, model
from fedcircuit import CircuitFedAvg, RecorderOptions, Run
from fedcircuit.app.study import round_line
from fedcircuit.learning import Weights, get_weights
from fedcircuit.records.files import LockedError, RunError
from fedcircuit.records.rounds import RoundRecord, build_manifest
from fedcircuit.records.runs import RunStore
from fedcircuit.report.page import write_report
from fedcircuit.report.tables import headline

LOCK_SECONDS = 90.0  # a ServerApp that lost its SuperLink ends after about 20 s
NOTHING = "there is nothing to go on with"
Config = Mapping[str, str | int | float | bool]

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, or those that are left; say what averaging did."""
    config = context.run_config
    folder = _folder(config, context.run_id)
    store = _store(folder, config)
    done, target = max(store.rounds(), default=0), int(config["num-rounds"])
    print(f"run folder: {folder}; {done} of {target} rounds are recorded", flush=True)
    if done < target:
        strategy = _strategy(config, store, done, target)
        strategy.start(
            grid,
            _arrays(store.read(done).weights if done else get_weights(model())),
            num_rounds=target - done,
            timeout=float(config["round-timeout"]),
        )
    store.close()
    run = Run.load(folder)
    print(headline(run), flush=True)
    print(f"report: {write_report(run)}", flush=True)


def _folder(config: Config, run_id: int) -> Path:
    given = str(config["run-dir"])
    if config["resume"] and not given:
        raise ValueError(
            "resume = true needs run-dir, the absolute folder of the run to go on with"
        )
    folder = Path(given or f"runs/deployed-{run_id}")
    if given and not folder.is_absolute():
        raise ValueError(f"run-dir must be an absolute folder on the server, got {given!r}")
    if config["resume"] and not folder.exists():
        raise ValueError(f"{folder} does not exist: {NOTHING}; leave out resume to begin")
    if not config["resume"] and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} exists already and is left as it is; choose another run-dir, or go on with "
            "-c resume=true"
        )
    return folder.absolute()


def _store(folder: Path, config: Config) -> RunStore:
    """The run folder: a new one, or the one to go on with."""
    if not config["resume"]:
        manifest = build_manifest(
            "deployment",
            dict(config),
            seed=int(config["seed"]),
            class_names=[str(index) for index in range(N_CLASSES)],
            thresholds={"validity": asdict(CIRCUITS.validity), "verdict": asdict(CIRCUITS.verdict)},
        )
        return RunStore.create(folder, manifest)
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return RunStore.open(folder)
        except RunError as error:
            if not isinstance(error.__cause__, LockedError) or time.monotonic() > end:
                raise
            print(f"waiting for the process before: {error.__cause__}", flush=True)
            time.sleep(5)


def _strategy(config: Config, store: RunStore, done: int, target: int) -> CircuitFedAvg:
    return CircuitFedAvg(
        fraction_evaluate=1.0 if config["evaluate"] else 0.0,
        min_train_nodes=int(config["min-nodes"]),
        min_evaluate_nodes=int(config["min-nodes"]),
        min_available_nodes=int(config["min-nodes"]),
        model=model(),
        example=example(),
        discover_on="clients",
        circuits=CIRCUITS,
        store=store,
        options=RecorderOptions(
            seed=int(config["seed"]),
            round_offset=done,
            node_timeout=float(config["node-timeout"]),
            on_round=lambda record: _tell(record, target),
        ),
    )


def _tell(record: RoundRecord, target: int) -> None:
    if record.round > 0:
        print(round_line(record, target), flush=True)


def _arrays(weights: Weights) -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in weights.items()})
