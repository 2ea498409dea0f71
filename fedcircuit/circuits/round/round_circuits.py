"""The circuits of one round: of the global model and of every client's, compared and judged."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.circuits import CircuitStack, Site
from fedcircuit.circuits.masking import Layers
from fedcircuit.circuits.models import fast_copy, searching
from fedcircuit.circuits.probes import Probe, fitted
from fedcircuit.circuits.round.batched_models import common_layers, examined_together, most_together
from fedcircuit.circuits.round.client_comparison import ClientComparison, compared
from fedcircuit.circuits.round.model_circuits import ModelCircuits, Search, circuits_of_model
from fedcircuit.circuits.round.sent_circuits import SentCircuits
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.circuits.round.timing import Clock

__all__ = [
    "GLOBAL",
    "CircuitSettings",
    "ClientComparison",
    "ModelCircuits",
    "RoundCircuits",
    "RoundTask",
    "analyse_round",
    "circuits_of_model",
    "load_weights",
]

GLOBAL = "global"  # identity of the averaged model beside the clients'
Weights = Mapping[str, NDArray[np.generic]]  # as in fedcircuit.learning, which is not needed here


@dataclass(frozen=True)
class RoundCircuits:
    """What is known of the circuits of one round.

    Parameters
    ----------
    sites
        Sites of the architecture.
    models
        The global model first, then the clients in the order they were given.
    comparisons
        By client.
    skipped
        Clients left out, each with the reason.
    seconds
        Wall seconds by part: discovery, checks, function, overlap.
    """

    sites: tuple[Site, ...]
    models: tuple[ModelCircuits, ...]
    comparisons: Mapping[str, ClientComparison]
    skipped: tuple[tuple[str, str], ...]
    seconds: Mapping[str, float]

    @property
    def stack(self) -> CircuitStack:
        """All circuits in one tensor."""
        return CircuitStack(
            self.sites,
            tuple(one.model for one in self.models),
            torch.stack([one.masks for one in self.models]),
            torch.stack([one.found for one in self.models]),
        )

    @property
    def live(self) -> Tensor:
        """Live units of every model, ``[models, units]`` bool."""
        return torch.stack([one.live for one in self.models])


@dataclass(frozen=True)
class RoundTask:
    """How a round is analysed.

    Parameters
    ----------
    settings
        How circuits are found, checked and judged.
    seed, round
        Random draws depend on these and the model's identity alone, not on who else takes part.
    time_budget
        Seconds after which no further client is begun; None is no limit. The global model is
        always analysed.
    order
        The order in which clients are worked on, which decides who is left out when the budget is
        used up; None is the order given.
    sent
        Circuits that clients found on their own data, by client. If given, no client's circuits
        are searched for on the probe: a client that is not named here has none.
    """

    settings: CircuitSettings
    seed: int
    round: int
    time_budget: float | None = None
    order: Sequence[str] | None = None
    sent: Mapping[str, SentCircuits] | None = None


@searching()
def analyse_round(
    model: nn.Module,
    global_weights: Weights,
    client_weights: Mapping[str, Weights],
    probe: Probe,
    task: RoundTask,
) -> RoundCircuits:
    """Find, check and compare the circuits of the global and of every client's model.

    Parameters
    ----------
    model
        The architecture; it is copied, its weights do not matter.
    global_weights, client_weights
        The weights after averaging, and by client those that entered it.
    probe
        Circuits are found on one half and checked on the other.
    task
        Settings, seed, round and limits.

    Raises
    ------
    ValueError, RuntimeError
        If the model has no sites or does not fit the probe or the weights.
    """
    clock = Clock()
    model, probe = fitted(model, probe, task.seed)
    search = Search.of(model, probe, task.settings, task.seed, task.round, clock)
    averaged = fast_copy(model, probe.checking.inputs[:2])
    load_weights(averaged, global_weights)
    order = list(client_weights if task.order is None else task.order)
    layers = None
    if task.sent is None and task.time_budget is None:
        layers = common_layers(search, averaged, global_weights)
    if layers is None:
        found = _one_by_one(search, averaged, [(c, client_weights[c]) for c in order], task)
    else:
        for client in order:
            _require_fit(averaged, client_weights[client])
        every = [(GLOBAL, global_weights), *((c, client_weights[c]) for c in order)]
        found = _together(search, layers, every, next(averaged.parameters()).detach())
    kept = [client for client in client_weights if client in found.clients]
    return RoundCircuits(
        search.sites,
        (found.own, *(found.clients[client][0] for client in kept)),
        {client: found.clients[client][1] for client in kept},
        tuple(
            (client, found.skipped[client]) for client in client_weights if client in found.skipped
        ),
        clock.seconds,
    )


@dataclass(frozen=True)
class _Found:
    """The global model's circuits, those of the clients, and who was left out and why."""

    own: ModelCircuits
    clients: dict[str, tuple[ModelCircuits, ClientComparison]]
    skipped: dict[str, str]


def _one_by_one(
    search: Search, averaged: nn.Module, clients: Sequence[tuple[str, Weights]], task: RoundTask
) -> _Found:
    own, receiver = search.examine(averaged, GLOBAL)
    local_model = copy.deepcopy(averaged)
    found = _Found(own, {}, {})
    for client, weights in clients:
        if task.time_budget is not None and search.clock.elapsed() > task.time_budget:
            found.skipped[client] = f"the time budget of {task.time_budget:g} s was used up"
            continue
        load_weights(local_model, weights)
        sent = None if task.sent is None else task.sent.get(client, _nothing(own))
        circuits, donor = search.examine(local_model, client, sent=sent)
        (comparison,) = compared([circuits], donor, [0], (own, receiver), search)
        found.clients[client] = circuits, comparison
    return found


def _together(
    search: Search, layers: Layers, models: Sequence[tuple[str, Weights]], like: Tensor
) -> _Found:
    """All models in as few groups as memory allows; the first one is the global model."""
    size = most_together(search)
    head, receiver = examined_together(search, layers, models[:size], like)
    found = _Found(head[0], {}, {})
    group, subject, owners = head[1:], receiver, list(range(1, len(head)))
    for start in range(0, len(models), size):
        if start:
            group, subject = examined_together(search, layers, models[start : start + size], like)
            owners = list(range(len(group)))
        comparisons = compared(group, subject, owners, (found.own, receiver), search)
        for circuits, comparison in zip(group, comparisons, strict=True):
            found.clients[circuits.model] = circuits, comparison
    return found


def load_weights(model: nn.Module, weights: Weights) -> None:
    """Copy named arrays into a model, keeping its dtypes and memory layout.

    Raises
    ------
    RuntimeError
        If names or shapes differ; torch names them all.
    """
    model.load_state_dict({name: torch.tensor(np.asarray(v)) for name, v in weights.items()})


def _nothing(like: ModelCircuits) -> SentCircuits:
    """The circuits of a client that sent none."""
    return SentCircuits(torch.zeros_like(like.masks), torch.zeros_like(like.found), None)


def _require_fit(model: nn.Module, weights: Weights) -> None:
    """Raise what `load_weights` raises."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if {name: tuple(np.shape(value)) for name, value in weights.items()} != wanted:
        load_weights(copy.deepcopy(model), weights)
