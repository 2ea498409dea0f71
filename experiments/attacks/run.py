"""Runs a federation under attack: every strategy, attack and number of bad clients, seed by seed.

    python experiments/attacks/run.py --data DATA --out runs/attacks

Ten clients (mnist.yaml); bad are the first 1 or 3. Every run is a folder OUT/STRATEGY/ATTACK-BAD/
seedN. It is written beside its place and moved there when it is complete, so runs that are there
are left as they are and a stopped program goes on where it was. The tables are made from the
folders alone by experiments/attacks/table.py, the figure by experiments/attacks/figure.py.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from attacks import ATTACKS, Attack, AttackMod, PoisonedData
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum, Strategy
from updates import UpdateObserver

from fedcircuit import RecorderOptions, client_app, observe
from fedcircuit.app.config import load_study
from fedcircuit.app.engines import Engine, Federation, quiet_flower, run_federation
from fedcircuit.app.study import (
    PartitionedData,
    Study,
    build_study,
    circuit_settings,
    local_training,
    source_of,
)
from fedcircuit.observers import EvaluationObserver
from fedcircuit.observers.circuits import CircuitObserver
from fedcircuit.records.rounds import Storage, build_manifest
from fedcircuit.records.runs import RunStore

STUDY = Path(__file__).with_name("mnist.yaml")
CALIBRATION = 100  # seeds from here on: clean runs that set the thresholds of the flags
EVERYONE = {"fraction_evaluate": 0.0, "min_train_nodes": 1, "min_evaluate_nodes": 0}

# Up to three of ten clients are bad, and the strategies that ask how many are told three.
STRATEGIES: dict[str, tuple[type[FedAvg], dict[str, float]]] = {
    "fedavg": (FedAvg, {}),
    "fedmedian": (FedMedian, {}),
    "trimmed-0.2": (FedTrimmedAvg, {"beta": 0.2}),  # cuts two at each end: too few for three
    "trimmed-0.3": (FedTrimmedAvg, {"beta": 0.3}),
    "krum": (Krum, {"num_malicious_nodes": 3}),
    "multikrum": (MultiKrum, {"num_malicious_nodes": 3, "num_nodes_to_select": 7}),
}


@dataclass(frozen=True)
class Setting:
    """One run."""

    strategy: str
    attack: str
    n_bad: int
    seed: int

    def path(self, out: Path) -> Path:
        """Folder of the run."""
        return out / self.strategy / f"{self.attack}-{self.n_bad}" / f"seed{self.seed}"


def main() -> None:
    """Run what is missing."""
    options = _options()
    extra = [*([f"data.root={options.data}"] if options.data else []), *options.set]
    settings = wanted(options)
    n_clients = load_study(options.study, extra).n_clients
    if max(setting.n_bad for setting in settings) >= n_clients:
        raise SystemExit(f"--bad {options.bad}: there are {n_clients} clients, one must be good")
    missing = [setting for setting in settings if not setting.path(options.out).exists()]
    print(f"{len(settings) - len(missing)} runs are there, {len(missing)} to go", flush=True)
    start = time.perf_counter()
    for setting in missing:
        run(setting, options.study, extra, options.out)
        print(f"{time.perf_counter() - start:6.0f} s  {setting.path(options.out)}", flush=True)


def wanted(options: argparse.Namespace) -> list[Setting]:
    """Clean runs for the thresholds, then clean and attacked ones, all strategies of a seed."""
    strategies = options.strategies.split(",")
    settings = [
        Setting(strategy, "none", 0, CALIBRATION + seed)
        for seed in range(options.calibration)
        for strategy in strategies
    ]
    numbers = [int(number) for number in options.bad.split(",")]
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for attack in options.attacks.split(","):
            for n_bad in [0] if attack == "none" else [number for number in numbers if number]:
                settings += [Setting(strategy, attack, n_bad, seed) for strategy in strategies]
    return settings


def run(setting: Setting, study_file: Path, extra: list[str], out: Path) -> Path:
    """Make one run: the study's clients with some bad among them, under an observed strategy."""
    study = build_study(load_study(study_file, [*extra, f"seed={setting.seed}"]))
    torch.set_num_threads(study.config.engine.threads)
    attack = ATTACKS[setting.attack]
    path = setting.path(out)
    unfinished = path.with_name(f"{path.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    app = attacked_app(study, attack, setting.n_bad)
    store = new_store(unfinished, study, setting)
    try:
        with quiet_flower():
            strategy = observed(study, setting, store)
        federation = Federation(
            app, study.config.n_clients, study.initial_weights(), study.config.training.rounds
        )
        run_federation(Engine(), strategy, federation)
    finally:
        store.close()
    return unfinished.rename(path)


def attacked_app(study: Study, attack: Attack, n_bad: int) -> ClientApp:
    """The study's clients; the first ``n_bad`` of them attack."""
    config, n_classes = study.config, len(study.class_names)
    own = PartitionedData(source_of(config), config.partition, config.seed, config.engine.threads)
    return client_app(
        study.model,
        PoisonedData(own, attack.labels, n_bad, n_classes) if attack.labels else own,
        local_training(config),
        n_classes=n_classes,
        seed=config.seed,
        mods=[] if attack.update is None else [AttackMod(attack.update, n_bad)],
    )


def observed(study: Study, setting: Setting, store: RunStore) -> Strategy:
    """The strategy, with what is to be recorded of every round."""
    config, model = study.config, study.model()
    kind, options = STRATEGIES[setting.strategy]
    strategy = kind(**EVERYONE, min_available_nodes=config.n_clients, **options)  # type: ignore[arg-type]
    return observe(
        strategy,
        store=store,
        observers=[
            EvaluationObserver(model, study.test, study.class_names),
            UpdateObserver(model, study.probe),
            CircuitObserver(
                model,
                study.probe,
                circuit_settings(config),
                seed=config.seed,
                every=config.circuits.every,
            ),
        ],
        options=RecorderOptions(
            seed=config.seed,
            check_replies=ATTACKS[setting.attack].checked,
            fail_when_all_fail=False,  # a federation that an attack has ruined goes on to its end
        ),
    )


def new_store(path: Path, study: Study, setting: Setting) -> RunStore:
    """A run folder that says which attack it is of."""
    config = study.config
    settings = circuit_settings(config)
    manifest = build_manifest(
        f"{setting.strategy}-{setting.attack}-{setting.n_bad}",
        seed=config.seed,
        class_names=study.class_names,
        config={"attack": vars(setting), "study": config.model_dump(mode="json")},
        thresholds={"validity": settings.validity, "verdict": settings.verdict},
    )
    return RunStore.create(path, manifest, Storage(**config.storage.model_dump()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--data", type=Path, help="the study's data.root")
    parser.add_argument("--out", type=Path, default=Path("runs/attacks"))
    parser.add_argument("--strategies", default="fedavg,fedmedian,trimmed-0.2,trimmed-0.3,krum",
                        help="of " + ", ".join(STRATEGIES))  # fmt: skip
    parser.add_argument("--attacks", default="none,sign-flip,scaled,label-flip,one-class,"
                        "one-nan,one-nan-unchecked",
                        help="of " + ", ".join(ATTACKS))  # fmt: skip
    parser.add_argument("--bad", default="1,3", help="bad clients, of ten; none has 0")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help=f"below {CALIBRATION}")
    parser.add_argument("--calibration", type=int, default=5, help="clean runs for the thresholds")
    parser.add_argument("--set", action="append", default=[], help="as for fedcircuit run")
    options = parser.parse_args()
    for name, known in (("strategies", STRATEGIES), ("attacks", ATTACKS)):
        unknown = [one for one in getattr(options, name).split(",") if one not in known]
        if unknown:
            parser.error(f"unknown {name} {unknown}; known: {', '.join(known)}")
    if options.first_seed < 0 or options.first_seed + options.seeds > CALIBRATION:
        parser.error(f"seeds must lie in 0 to {CALIBRATION - 1}; those above set thresholds")
    return options


if __name__ == "__main__":
    main()
