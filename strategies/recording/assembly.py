"""From what a user has (a model, a probe, a folder) to a recorder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fedcircuit.circuits.models import workable
from fedcircuit.circuits.probes import Probe, ProbeLike, as_probe, taken
from fedcircuit.circuits.round import CircuitSettings
from fedcircuit.observers import EvaluationObserver
from fedcircuit.observers.circuits import CircuitObserver
from fedcircuit.records.rounds import Observer, build_manifest
from fedcircuit.records.runs import RunStore
from fedcircuit.samples import Samples
from fedcircuit.strategies.preflight import PreflightError, check_model
from fedcircuit.strategies.recording.memory_of_strategies import restore_state
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.recording.recorder import RoundRecorder
from fedcircuit.strategies.recording.resuming import is_new, printed, reopened, say

DiscoverOn = Literal["server", "clients"]


@dataclass(frozen=True)
class Sources:
    """Where circuits are found: a network, and samples of the server or of the clients.

    Parameters
    ----------
    model, probe, example, discover_on
        As for :func:`fedcircuit.strategies.observe`.

    Raises
    ------
    ValueError
        If they do not make sense together.
    """

    model: nn.Module | None
    probe: ProbeLike | None
    example: Tensor | ArrayLike | None
    discover_on: DiscoverOn

    def __post_init__(self) -> None:
        on_clients = self.discover_on == "clients"
        if self.discover_on not in get_args(DiscoverOn):
            raise ValueError(f"discover_on must be 'server' or 'clients', got {self.discover_on!r}")
        given = self.probe is not None or self.example is not None or on_clients
        if self.model is None and given:
            raise ValueError("circuits need a model; give model, or leave out what belongs to it")
        if self.model is not None:
            check_model(self.model)
        if (
            self.model is not None
            and self.probe is None
            and not (on_clients and self.example is not None)
        ):
            raise ValueError(
                "circuits need labelled samples: give probe; or, where the server has none, an "
                "example input and discover_on='clients', so that clients look on their own data"
            )

    def observers(
        self, settings: CircuitSettings, seed: int
    ) -> tuple[list[Observer], tuple[str, ...]]:
        """What looks at circuits and accuracy, and the names of the classes; nothing, no model."""
        if self.model is None:
            return [], ()
        probe = None if self.probe is None else fitting_probe(self.probe, self.model, seed)
        example = None if self.example is None else torch.as_tensor(self.example)
        if example is not None:
            example, _ = taken(workable(self.model), example, "example")
        circuits = CircuitObserver(
            self.model,
            probe,
            settings,
            seed=seed,
            discover_on=self.discover_on,
            example=example,
        )
        if probe is None:
            return [circuits], circuits.class_names
        accuracy = EvaluationObserver(self.model, _joined(probe), probe.class_names)
        return [circuits, accuracy], probe.class_names


def build_recorder(
    strategy: object,
    sources: Sources,
    *,
    run_dir: Path | str | None,
    store: RunStore | None,
    observers: Sequence[Observer],
    circuits: CircuitSettings | None,
    options: RecorderOptions,
    resume: bool = False,
) -> RoundRecorder:
    """A recorder for a strategy, which gets the state back that a resumed run had left.

    Raises
    ------
    ValueError
        If a folder and a store are both given, or the store has other rounds than the options
        say.
    RunError
        If the folder exists and is not empty, or is to be resumed and is another's.
    """
    if run_dir is not None and store is not None:
        raise ValueError("give run_dir or store, not both")
    if resume and (run_dir is None or options.round_offset):
        raise ValueError(
            "resume=True needs run_dir, the folder to continue, and finds the round_offset itself"
        )
    settings = circuits or CircuitSettings()
    looking, class_names = sources.observers(settings, options.seed)
    if run_dir is not None:
        manifest = build_manifest(
            type(strategy).__name__,
            seed=options.seed,
            class_names=class_names,
            thresholds={
                "validity": asdict(settings.validity),
                "verdict": asdict(settings.verdict),
            },
            network=None if sources.model is None else printed(sources.model),
        )
        if resume and not is_new(run_dir):
            store = reopened(run_dir, manifest)
            options = replace(options, round_offset=max(store.rounds(), default=0))
            say(store, options.round_offset)
        else:
            store = RunStore.create(run_dir, manifest)
    recorder = RoundRecorder(store, [*looking, *observers], options, model=sources.model)
    if store is not None and options.round_offset:
        restore_state(strategy, store.read(options.round_offset).state)
    return recorder


def fitting_probe(probe: ProbeLike, model: nn.Module, seed: int) -> Probe:
    """The probe, in the form in which the core has it (`fedcircuit.circuits.probes.as_probe`).

    Raises
    ------
    PreflightError
        If there are no samples, in either half, or they do not fit the model.
    """
    try:
        known = as_probe(probe, workable(model), seed)
        if not len(known.checking):
            raise PreflightError("the probe has no samples; give some of every class to check on")
    except PreflightError:
        raise
    except ValueError as error:
        raise PreflightError(str(error)) from error
    return known


def _joined(probe: Probe) -> Samples:
    """Both halves: no client trains on them, and accuracy needs no separate half."""
    inputs = torch.cat([probe.discovery.inputs, probe.checking.inputs])
    return Samples(inputs, torch.cat([probe.discovery.labels, probe.checking.labels]))
