"""From what a user has (a model, a probe, a folder) to a recorder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from fedcircuit.circuits.probe import Probe
from fedcircuit.circuits.settings import CircuitSettings
from fedcircuit.observers.circuits import CircuitObserver
from fedcircuit.records.manifest import build_manifest
from fedcircuit.records.round_record import Observer
from fedcircuit.records.store import RunStore
from fedcircuit.samples import Samples
from fedcircuit.strategies.recorder import RecorderOptions, RoundRecorder


def build_recorder(
    *,
    model: nn.Module | None,
    probe: Probe | tuple[Tensor, Tensor] | None,
    store: RunStore | Path | None,
    observers: Sequence[Observer],
    circuits: CircuitSettings | None,
    options: RecorderOptions,
    name: str,
) -> RoundRecorder:
    """A recorder with the circuit observer first, where there are model and probe.

    Raises
    ------
    ValueError
        If only one of model and probe is given.
    """
    if (model is None) != (probe is None):
        raise ValueError("circuits need both model and probe; give both, or neither")
    all_observers = list(observers)
    names: tuple[str, ...] = ()
    settings = circuits or CircuitSettings()
    if model is not None and probe is not None:
        ready = as_probe(probe, options.seed)
        names = ready.class_names
        circuit_observer = CircuitObserver(model, ready, settings, seed=options.seed)
        all_observers.insert(0, circuit_observer)
    if isinstance(store, Path):
        manifest = build_manifest(
            name,
            seed=options.seed,
            class_names=names,
            thresholds={
                "validity": asdict(settings.validity),
                "verdict": asdict(settings.verdict),
            },
        )
        store = RunStore.create(store, manifest)
    return RoundRecorder(store, all_observers, options)


def as_probe(probe: Probe | tuple[Tensor, Tensor], seed: int) -> Probe:
    """A probe from itself, or from inputs ``[n, ...]`` and integer labels ``[n]``."""
    if isinstance(probe, Probe):
        return probe
    inputs, labels = (torch.as_tensor(part) for part in probe)
    labels = labels.to(torch.int64)
    if len(labels) == 0:
        raise ValueError("the probe has no samples")
    names = tuple(str(index) for index in range(int(labels.max()) + 1))
    return Probe.split(Samples(inputs.float(), labels), names, seed)
