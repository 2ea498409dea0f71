"""The one call that finds the circuits of all classes of a model."""

from __future__ import annotations

import torch
from torch import nn

from fedcircuit.circuits.masking import DEFAULT_BYTES, Ablation, Memory, observed_reference
from fedcircuit.circuits.methods import discovery_method
from fedcircuit.circuits.models import searching
from fedcircuit.circuits.probes import ProbeLike, fitted
from fedcircuit.circuits.search import Discovery, DiscoveryMethod, Task, nothing_found
from fedcircuit.circuits.sites import find_sites
from fedcircuit.logits import n_not_finite, not_finite_reason


@searching()
def discover(
    model: nn.Module,
    probe: ProbeLike,
    *,
    method: str | DiscoveryMethod = "attribution",
    ablation: Ablation = "mean",
    seed: int = 0,
    memory_bytes: int = DEFAULT_BYTES,
) -> Discovery:
    """Circuits of every class of the model, found on the probe's discovery half.

    Whether they deserve the name is for ``fedcircuit.circuits.checks`` to say, on the other half.

    Parameters
    ----------
    model
        Takes ``[n, ...]`` and gives logits ``[n, classes]``; it is left as it came. One logit
        stands for two classes. Where logits are not finite no circuit is found.
    probe
        Labelled samples: a `Probe`, or what one is made of: a pair (inputs, labels), a ``Dataset``,
        a ``DataLoader`` (`fedcircuit.circuits.probes.labelled_samples.labelled`). Of the latter
        every class needs two samples, which are halved at random with the seed.
    method
        A name of ``METHOD_NAMES``, or a method with its options.
    ablation
        What a unit outside a circuit becomes: its class-balanced mean, zero, or its activation on
        a random sample of another class.
    seed
        Of methods, and of ablations, that draw at random.
    memory_bytes
        How much the search may hold at a time beside model, probe and results (scores and masks);
        one sample may take more. It changes the results by rounding at most.

    Raises
    ------
    ValueError
        If the model cannot be watched, has no sites or does not fit the probe; its output for a
        sample depends on other samples or on chance; or the method or ablation cannot be used.
    """
    model, known = fitted(model, probe, seed)
    samples, generator = known.discovery, torch.Generator().manual_seed(seed)
    chosen = discovery_method(method) if isinstance(method, str) else method
    sites = find_sites(model, samples.inputs)
    memory = Memory.of(model, sites, samples.inputs, memory_bytes)
    reference, seen = observed_reference(
        model,
        sites,
        samples,
        n_classes=known.n_classes,
        ablation=ablation,
        generator=generator,
        memory=memory,
    )
    why = "" if seen is None else not_finite_reason(n_not_finite(seen.logits), len(samples))
    if why:
        return nothing_found(sites, known.n_classes, why)
    task = Task(samples, known.n_classes, reference, seen, memory)
    return chosen(model, sites, task, generator)
