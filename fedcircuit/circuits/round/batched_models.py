"""Circuits of many models of a round in one go, where the architecture lets weights be stacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.circuits.checks import Candidates, CheckedModel, Validity, check_circuits, prepared
from fedcircuit.circuits.discovery import stacked_circuits, takes
from fedcircuit.circuits.masking import (
    Layers,
    Stack,
    StackedModels,
    layers_of,
    masked_models,
    stack,
    trial_agrees,
)
from fedcircuit.circuits.methods import Attribution
from fedcircuit.circuits.round.model_circuits import ModelCircuits, Search, with_reasons
from fedcircuit.circuits.round.timing import stream

Weights = Mapping[str, NDArray[np.generic]]


def common_layers(search: Search, model: nn.Module, weights: Weights) -> Layers | None:
    """The layers of models that can be examined together; None where they cannot.

    Parameters
    ----------
    search
        What the search has in common for all models of a round.
    model, weights
        The architecture with the weights of one of the models loaded, and these weights.
    """
    settings, probe = search.settings, search.probe
    method = settings.discovery()
    if settings.stability or not takes(method, probe.n_classes, settings.ablation):
        return None
    inputs = probe.checking.inputs[:2]
    layers = layers_of(model, search.sites, inputs)
    if layers is None or inputs.dtype != torch.float32 or len(inputs) < 2:
        return None
    if not {f"{name}.weight" for name in layers.names} <= set(weights):
        return None  # weights that are computed from others
    one = stack(layers, [weights], next(model.parameters()))
    return layers if trial_agrees(_masked(one, inputs, None), model, inputs) else None


def most_together(search: Search) -> int:
    """How many models fit into one group, at least 1."""
    n = max(len(search.probe.discovery), len(search.probe.checking))
    size = 4 * n * sum(site.n_units for site in search.sites)
    return max(1, search.settings.memory_bytes // 8 // size)


def examined_together(
    search: Search, layers: Layers, models: Sequence[tuple[str, Weights]], like: Tensor
) -> tuple[list[ModelCircuits], CheckedModel]:
    """Circuits of several models with their checks, and the models ready for further circuits.

    Parameters
    ----------
    search, layers
        As in `common_layers`.
    models
        Identity and weights of each: random draws depend on seed, round and identity alone.
    like
        A tensor of the type and on the device wanted.
    """
    names, settings, probe = [name for name, _ in models], search.settings, search.probe
    method = settings.discovery()
    assert isinstance(method, Attribution)
    with search.clock.part("discovery"):
        every = stack(layers, [weights for _, weights in models], like)
        circuits = stacked_circuits(
            every, probe.discovery, method, n_classes=probe.n_classes, ablation=settings.ablation
        )
    with search.clock.part("checks"):
        live, flat = every.live(), (circuits.masks.flatten(0, 1), circuits.found.flatten())
        subject = prepared(
            _masked(every, probe.checking.inputs, circuits.reference),
            probe.checking.labels.cpu(),
            live,
            n_classes=probe.n_classes,
            n_models=len(names),
        )
        validity = check_circuits(
            subject,
            Candidates(*flat, circuits.scores.flatten(0, 1)),
            settings.checks(),
            [stream(search.seed, search.round, name, "controls") for name in names],
        )
    reasons = circuits.reasons
    found = [
        ModelCircuits(
            model=name,
            sites=search.sites,
            masks=circuits.masks[index],
            found=circuits.found[index],
            reasons=reasons[index],
            scores=circuits.scores[index],
            live=live[index],
            validity=with_reasons(part, reasons[index]),
        )
        for index, (name, part) in enumerate(
            zip(names, _parts(validity, probe.n_classes), strict=True)
        )
    ]
    return found, subject


def _masked(models: Stack, inputs: Tensor, reference: tuple[Tensor, ...] | None) -> StackedModels:
    """The models, ready to run under many masks on the inputs."""
    first = models.first(inputs.to(models.weights[0]))
    return masked_models(models, first, models.behind(first)[-1], reference)


def _parts(values: Sequence[Validity], size: int) -> list[Sequence[Validity]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
