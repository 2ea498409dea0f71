"""Circuits that a client finds on its own data, as what it says beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import CircuitSettings, MessageValue, circuits_of_model, to_message
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class ClientCircuits:
    """Clients look for circuits on their own data and send the masks: no data, a few kilobytes.

    The masks tell which units matter for which class, and so which classes a client holds.

    Parameters
    ----------
    settings
        Method and ablation, as on the server.
    every
        Look in rounds divisible by this.
    """

    settings: CircuitSettings
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be >= 1, got {self.every}")


def own_circuits(
    model: nn.Module, samples: Samples, settings: CircuitSettings, *, n_classes: int, seed: int
) -> Mapping[str, MessageValue]:
    """Circuits of a client's model, found and checked on its own samples, packed.

    Empty where too few classes have the two samples that finding and checking take.
    """
    enough = samples.counts(n_classes)[samples.labels] > 1
    n_held = len(set(samples.labels[enough].tolist()))
    # resample ablation shows a unit as it is on another class
    if n_held < (2 if settings.ablation == "resample" else 1):
        return {}
    probe = Probe.split(samples.take(enough), tuple(map(str, range(n_classes))), seed)
    found = circuits_of_model(model, probe, settings, seed=seed)
    return to_message(found.masks, found.found, found.validity)
