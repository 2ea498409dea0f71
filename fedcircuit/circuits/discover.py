"""The one call that finds the circuits of all classes of a model."""

from __future__ import annotations

import torch
from torch import nn

from fedcircuit.circuits.ablation import Ablation, observed_reference
from fedcircuit.circuits.discovery import Discovery, DiscoveryMethod, Task, discovery_method
from fedcircuit.circuits.probe import Probe
from fedcircuit.circuits.sites import find_sites


def discover(
    model: nn.Module,
    probe: Probe,
    *,
    method: str | DiscoveryMethod = "attribution",
    ablation: Ablation = "mean",
    seed: int = 0,
) -> Discovery:
    """Circuits of every class of the model, found on the probe's discovery half.

    Whether they deserve the name is for ``fedcircuit.circuits.validity`` to say, on the other
    half.

    Parameters
    ----------
    model
        Takes ``[n, ...]`` and gives logits ``[n, classes]``; it is left as it came.
    probe
        Labelled samples in two halves.
    method
        A name of ``METHOD_NAMES``, or a method with options of its own.
    ablation
        What a unit outside a circuit becomes: its class-balanced mean, zero, or its activation on
        a random sample of another class.
    seed
        Of methods, and of ablations, that draw at random.

    Raises
    ------
    ValueError
        If the model has no sites, the method or ablation is unknown, or resample ablation has
        samples of fewer than two classes.
    """
    samples, generator = probe.discovery, torch.Generator().manual_seed(seed)
    sites = find_sites(model, samples.inputs)
    reference, seen = observed_reference(
        model,
        sites,
        samples,
        n_classes=probe.n_classes,
        ablation=ablation,
        generator=generator,
    )
    chosen = discovery_method(method) if isinstance(method, str) else method
    return chosen(model, sites, Task(samples, probe.n_classes, reference, seen), generator)
