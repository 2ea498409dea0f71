"""Running a study, from its first round or from where it stopped."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from fedcircuit.aggregation import LipsSettings
from fedcircuit.app.config import CLASSES, ConfigError, StudyConfig, check_options, parse_study
from fedcircuit.app.engines import Engine, Federation, quiet_flower, run_federation
from fedcircuit.app.study.memory import forgotten, kept_by_clients, own_tensors
from fedcircuit.app.study.mending import mended
from fedcircuit.app.study.observers import study_observers
from fedcircuit.app.study.parts import Study, build_study, circuit_settings
from fedcircuit.app.study.trackers import study_trackers, tracked
from fedcircuit.circuits.sites import find_sites
from fedcircuit.learning.networks import batch_norm_tensors
from fedcircuit.learning.partitions import summary
from fedcircuit.records.files import RunError
from fedcircuit.records.rounds import Observer, RoundRecord, Storage, build_manifest
from fedcircuit.records.runs import LOOK, MANIFEST, RunStore
from fedcircuit.strategies import LIPS, CircuitFedAvg, observe
from fedcircuit.strategies.recording import RecorderOptions

logger = logging.getLogger(__name__)

OnRound = Callable[[RoundRecord], None]


def new_run_path(config: StudyConfig, out: Path | None) -> Path:
    """``out``, or a folder below ``runs`` named after the study and the time."""
    if out is not None:
        return out
    return Path("runs") / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"


def run_study(config: StudyConfig, path: Path, *, on_round: OnRound | None = None) -> Path:
    """Run a study from its first round into a new run folder.

    Raises
    ------
    ValueError, OSError
        If configuration, data, partition, model or probe do not fit; nothing was written.
    RunError
        If the folder exists, or a round cannot be recorded.
    AllClientsFailedError
        If all clients of a round fail.
    """
    study = checked_study(config, path)
    settings = circuit_settings(config)
    manifest = build_manifest(
        config.name,
        seed=config.seed,
        class_names=study.class_names,
        config=config.model_dump(mode="json"),
        thresholds={"validity": asdict(settings.validity), "verdict": asdict(settings.verdict)},
    )
    store = RunStore.create(path, manifest, Storage(**config.storage.model_dump()))
    try:
        store.write_partition(partition_payload(study))
        _run(study, store, config.training.rounds, 0, on_round)
    finally:
        store.close()
    return path


def resume_run(path: Path, *, rounds: int | None = None, on_round: OnRound | None = None) -> Path:
    """Go on after the last recorded round, bit for bit as if nothing had stopped.

    Parameters
    ----------
    path
        A run folder of ``fedcircuit run``.
    rounds
        Total rounds to reach; None is what the study says.

    Raises
    ------
    RunError
        If the folder is no run of a study, or has all its rounds.
    """
    store = RunStore.open(path)
    try:
        config = study_of(store.manifest, path)
        check_options(config.strategy)
        target = config.training.rounds if rounds is None else rounds
        done = max(store.rounds(), default=0)
        if done >= target:
            raise RunError(f"{path} has all {target} rounds; ask for more with --rounds")
        remembered = kept_by_clients(path, done) if own_tensors(config) else {}
        study = build_study(config, remembered)
        if store.read_partition() is None:  # stopped between the manifest and the partition
            store.write_partition(partition_payload(study))
        _run(study, store, target - done, done, on_round)
    finally:
        store.close()
    return path


def checked_study(config: StudyConfig, path: Path) -> Study:
    """All parts of a study, tried once; nothing has run and nothing is written.

    Parameters
    ----------
    config, path
        The study, and the run folder it is to have.

    Raises
    ------
    ValueError, OSError
        If configuration, data, partition, model or probe do not fit.
    ImportError
        If the library of a tracker is missing.
    """
    check_options(config.strategy)
    study_trackers(config, path)  # a library that is missing is told now
    study = build_study(config)
    check_study(study)
    return study


def study_of(manifest: Mapping[str, Any], path: Path) -> StudyConfig:
    """The study that a run folder was made from.

    Raises
    ------
    RunError
        If it was not made by 'fedcircuit run'.
    """
    if LOOK in manifest:
        raise RunError(
            f"{path} is a later look at a run, without training: resume the run itself, "
            f"'fedcircuit resume {path.parent.parent}', or look further with 'fedcircuit look "
            f"{path.parent.parent} --name {path.name}' and the same settings"
        )
    config = manifest.get("config")
    if not isinstance(config, Mapping) or "training" not in config:
        raise RunError(
            f"{path} was not recorded by 'fedcircuit run' but by a program of its own: resume it "
            "there (in your own program with RecorderOptions(round_offset=...); in a deployment "
            f"with deploy.py run FOLDER -c run-dir={path.absolute()} -c resume=true)"
        )
    return parse_study(config, where=f"the configuration in {path / MANIFEST}")


def _run(study: Study, store: RunStore, rounds: int, done: int, on_round: OnRound | None) -> None:
    config, n_clients = study.config, len(study.partition.indices)
    torch.set_num_threads(config.engine.threads)
    options = RecorderOptions(
        seed=config.seed,
        round_offset=done,
        fail_when_all_fail=True,
        identify=True,
        on_round=on_round,
    )
    trackers = study_trackers(config, store.path, study.class_names)
    with quiet_flower():  # it warns of every round without federated evaluation
        observers = study_observers(
            study, lambda number: store.read(number).weights if number <= done else None
        )
        seeing = [*observers, *trackers]  # trackers pass on what the others saw
        strategy = _with_lips(study, mended(study, _strategy(study, store, seeing, options)))
    if done:
        _warn_of_forgetting(config)
    initial = store.read(done).weights if done else study.initial_weights()
    engine = Engine(
        config.engine.name, config.engine.cpus_per_client, config.engine.gpus_per_client
    )
    with tracked(trackers, store.path):
        run_federation(engine, strategy, Federation(study.app, n_clients, initial, rounds))


def _warn_of_forgetting(config: StudyConfig) -> None:
    lost = forgotten(config)
    if lost:
        logger.warning(
            "clients forget %s when a run stops: the rounds from here on differ from those of an "
            "uninterrupted run",
            " and ".join(lost),
        )


def _with_lips(study: Study, strategy: Strategy) -> Strategy:
    """The strategy with masked downloads around it, where the study asks for them."""
    config = study.config.strategy.lips
    if config is None:
        return strategy
    return LIPS(
        strategy,
        LipsSettings(**config.model_dump(exclude={"layers"})),
        layers=config.layers,
        n_rounds=study.config.training.rounds,
        seed=study.config.seed,
        initial=study.initial_weights(),
    )


def _strategy(
    study: Study,
    store: RunStore,
    observers: Sequence[Observer],
    options: RecorderOptions,
) -> Strategy:
    config = study.config
    arguments: dict[str, Any] = {
        "fraction_train": config.strategy.fraction_train,
        "fraction_evaluate": 0.0 if config.partition.personal_test is None else 1.0,
        "min_train_nodes": 1,
        "min_evaluate_nodes": 0,
        "min_available_nodes": len(study.partition.indices),
        **config.strategy.options,
    }
    try:
        if config.strategy.name == "fedavg":
            return CircuitFedAvg(**arguments, store=store, observers=observers, options=options)
        cls = getattr(flower, CLASSES[config.strategy.name])
        strategy: Strategy = cls(**arguments)
    except TypeError as error:
        raise ConfigError(f"strategy.options: {error}") from error
    return observe(strategy, store=store, observers=observers, options=options)


def check_study(study: Study) -> None:
    """Run model and probe once before any work is put into them.

    Raises
    ------
    ValueError
        If the model has no sites, gives other than one logit a class, or clients lack samples.
    """
    model, n_classes = study.model(), len(study.class_names)
    example = study.probe.discovery.inputs[:2]
    with torch.no_grad(), warnings.catch_warnings():
        logits = model.eval()(example)
    if logits.shape != (len(example), n_classes):
        raise ValueError(
            f"the model must give [n, {n_classes}] logits, it gave {tuple(logits.shape)}"
        )
    if study.config.circuits.enabled:
        find_sites(model, example)
    if study.config.training.batch_norm == "own" and not batch_norm_tensors(model):
        raise ValueError(
            "training.batch_norm 'own' (FedBN) needs a model with batch norm, "
            f"{study.config.model.name} has none; use resnet or vgg11, or batch_norm shared"
        )
    for client, index in enumerate(study.partition.indices):
        if len(index) == 0:
            raise ValueError(f"client {client} has no sample; give it some, or leave it out")


def partition_payload(study: Study) -> Mapping[str, object]:
    """Who holds what, as recorded in ``partition.json``."""
    described = summary(
        study.partition, study.train_labels.numpy(), n_classes=len(study.class_names)
    )
    return {
        "kind": study.partition.kind,
        "notes": list(study.partition.notes),
        **({"names": list(study.partition.names)} if study.partition.names else {}),
        "class_names": list(study.class_names),
        "counts": described.counts.tolist(),
        "entropy_bits": described.entropy.tolist(),
        "distance": described.distance.tolist(),
    }
