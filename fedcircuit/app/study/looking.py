"""Looking again at a run without training: of a study by its settings, of any run in Python."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fedcircuit.app.config import ConfigError, StudyConfig, parse_study
from fedcircuit.app.study.federation import OnRound, check_study, study_of
from fedcircuit.app.study.observers import study_observers
from fedcircuit.app.study.parts import build_study, circuit_settings
from fedcircuit.circuits.probes import Probe, ProbeLike
from fedcircuit.circuits.round import CircuitSettings
from fedcircuit.observers import ANEW, Asked, look_again
from fedcircuit.records.files import RunError
from fedcircuit.records.files import digests as integrity
from fedcircuit.records.rounds import Observer
from fedcircuit.records.runs import LOOK, Look, Run
from fedcircuit.samples import Samples
from fedcircuit.strategies.recording import DiscoverOn, Sources, fitting_probe

logger = logging.getLogger(__name__)

LOOKED_WITH = ("circuits.", "inertia.", "information.", "storage.scores", "engine.threads")


def look(
    run: Run | Path | str,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    rounds: Collection[int] | None = None,
    model: nn.Module | None = None,
    probe: ProbeLike | None = None,
    example: Tensor | ArrayLike | None = None,
    discover_on: DiscoverOn = "server",
    circuits: CircuitSettings | None = None,
    observers: Sequence[Observer] = (),
    on_round: OnRound | None = None,
) -> Look:
    """Look at the recorded weights of a run again, with other settings and without training.

    What is seen is recorded beside the run, in ``RUN/looks/NAME``; nothing of the run is changed.
    With the run's own settings it is what the run recorded, bit for bit, but for the seconds (a
    ``time_budget`` may leave out other clients, and ``delta-fp16`` keeps clients' weights nearly).
    A look that was stopped goes on when it is asked for again with the same settings.

    Parameters
    ----------
    run
        A run, or its folder.
    overrides
        For a run of ``fedcircuit run``, whose data and model come from its manifest: keys to
        change, such as ``"circuits.method=gates"``, of circuits, inertia and information.
    name
        Of the look; None is the one that has these settings, else ``look-1`` and so on.
    rounds
        Rounds to look at; None is all.
    model, probe, example, discover_on, circuits
        For a run of one's own program, as in :func:`fedcircuit.observe`.
    observers
        More to look with, for such a run.
    on_round
        Called with every round that was looked at.

    Raises
    ------
    ValueError
        If a setting would need training anew, or what is given does not fit the run.
    RunError
        If there is nothing to look at, or a look of this name has other settings.
    """
    loaded = _loaded(run)
    if model is None:
        given = (probe, example, circuits, observers or None)
        if any(value is not None for value in given) or discover_on != "server":
            raise ValueError("give the model as well, or only settings of a study to change")
        asked = _of_study(loaded, overrides, rounds)
    elif overrides:
        raise ValueError("overrides are for runs of 'fedcircuit run'; give circuits=...")
    else:
        sources = Sources(model, probe, example, discover_on)
        asked = _of_program(loaded, sources, circuits or CircuitSettings(), observers, rounds)
    _tell_differences(loaded)
    return look_again(loaded, asked, name=name, on_round=on_round)


def _loaded(run: Run | Path | str) -> Run:
    loaded = run if isinstance(run, Run) else Run.load(run)
    if LOOK in loaded.manifest:
        raise RunError(f"{loaded.path} is a look itself; look at the run it belongs to")
    return loaded


def _tell_differences(run: Run) -> None:
    if run.manifest.get("storage", {}).get("updates") == "delta-fp16":
        logger.warning(
            "%s keeps clients' weights as differences in half precision: their circuits are those "
            "of nearly the weights they sent", run.path,
        )  # fmt: skip


def _of_study(run: Run, overrides: Sequence[str], rounds: Collection[int] | None) -> Asked:
    """What is asked of a run of ``fedcircuit run``."""
    if not run.manifest.get("config"):
        raise RunError(
            f"{run.path} was recorded by a program of its own, which alone knows the network and "
            "the samples: look at it in Python, with look(RUN, model=..., probe=...)"
        )
    before = study_of(run.manifest, run.path)
    config = parse_study(dict(run.manifest["config"]), overrides, where=f"a look at {run.path}")
    changed = changed_keys(before, config)
    _check_changed(changed, before)
    torch.set_num_threads(config.engine.threads)
    study = build_study(config)
    check_study(study)
    recorded = set(run.rounds)
    observers = study_observers(study, lambda n: run.weights(n) if n in recorded else None)
    settings = circuit_settings(config)
    return Asked(
        observers=[observer for observer in observers if observer.name in ANEW],
        settings=changed,
        rounds=rounds,
        manifest={
            "config": config.model_dump(mode="json"),
            "thresholds": {
                "validity": asdict(settings.validity),
                "verdict": asdict(settings.verdict),
            },
        },
        scores=config.storage.scores,
    )


def changed_keys(before: StudyConfig, after: StudyConfig) -> dict[str, Any]:
    """Keys in which two studies differ, with the values of the second."""
    first, second = (_flat(config.model_dump(mode="json")) for config in (before, after))
    keys = dict.fromkeys((*second, *first))
    return {key: second.get(key) for key in keys if first.get(key) != second.get(key)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _check_changed(changed: Mapping[str, Any], before: StudyConfig) -> None:
    """Refuse what only clients or training could give."""
    anew = [key for key in changed if not key.startswith(LOOKED_WITH)]
    if anew:
        raise ConfigError(
            f"{', '.join(anew)} would need training anew, and a look takes the weights that were "
            "recorded: it may change circuits.*, inertia.*, information.* and storage.scores. Run "
            "another study for the rest"
        )
    if changed.get("circuits.discover_on") == "clients" and before.circuits.enabled:
        raise ConfigError(
            "circuits.discover_on clients would need training anew: the clients of this run sent "
            "no circuits of their own"
        )


def _of_program(
    run: Run,
    sources: Sources,
    settings: CircuitSettings,
    observers: Sequence[Observer],
    rounds: Collection[int] | None,
) -> Asked:
    """What is asked of a run of one's own program, with the seed of its manifest."""
    assert sources.model is not None
    seed = int(run.manifest.get("seed") or 0)
    looking, class_names = sources.observers(settings, seed)
    known = run.class_names
    if known and len(known) != len(class_names):
        raise ValueError(
            f"{run.path} has {len(known)} classes, the model and probe have {len(class_names)}"
        )
    own = sources.model.state_dict()
    wrong = set(own).symmetric_difference(run.weights(0))
    if wrong:
        raise ValueError(
            f"the model does not fit the weights of {run.path}: they differ in "
            f"{', '.join(sorted(wrong)[:5])}"
        )
    changed = _chosen(settings)
    if sources.discover_on != "server":
        changed["circuits.discover_on"] = sources.discover_on
    if sources.probe is not None:
        changed["probe"] = _digest(fitting_probe(sources.probe, sources.model, seed))
    if observers:
        changed["observers"] = [observer.name for observer in observers]
    return Asked(
        observers=[*(observer for observer in looking if observer.name in ANEW), *observers],
        settings=changed,
        rounds=rounds,
        manifest={
            "class_names": list(known or class_names),
            "thresholds": {
                "validity": asdict(settings.validity),
                "verdict": asdict(settings.verdict),
            },
        },
    )


def _chosen(settings: CircuitSettings) -> dict[str, Any]:
    """Settings that are not the defaults, by key."""
    first, second = (
        _flat({"circuits": asdict(replace(one, method=_method(one), method_options={}))})
        for one in (CircuitSettings(), settings)
    )
    options = {f"circuits.method_options.{k}": v for k, v in settings.method_options.items()}
    return {**{key: second[key] for key in second if second[key] != first.get(key)}, **options}


def _method(settings: CircuitSettings) -> str:
    known = settings.method
    return known if isinstance(known, str) else known.name


def _digest(probe: Probe) -> str:
    """Of the samples in both halves, so that a look goes on with the same ones only."""
    halves: tuple[Samples, ...] = (probe.discovery, probe.checking)
    parts = [part for half in halves for part in (half.inputs, half.labels)]
    return integrity.digest(*(np.ascontiguousarray(part.cpu().numpy()).tobytes() for part in parts))
