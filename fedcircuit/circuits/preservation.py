"""The circuits of one round: of the global model and of every client's, compared and judged."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.circuits.checks import CheckedModel
from fedcircuit.circuits.circuit import CircuitStack, Site
from fedcircuit.circuits.exchange import SentCircuits
from fedcircuit.circuits.masking import fast_copy
from fedcircuit.circuits.model_circuits import (
    Clock,
    ModelCircuits,
    Search,
    circuit_functions,
    circuits_of_model,
)
from fedcircuit.circuits.overlap import ALL_LAYERS, Overlap, Side, paired_overlaps
from fedcircuit.circuits.probe import Probe
from fedcircuit.circuits.settings import CircuitSettings
from fedcircuit.circuits.sites import find_sites
from fedcircuit.circuits.validity import Status
from fedcircuit.circuits.verdict import CircuitFunction, Judgement, verdict

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
class ClientComparison:
    """A client's circuits against the global model's, one entry for each class.

    Parameters
    ----------
    local_in_global
        The client's valid circuits inside the global weights; NaN for the others.
    global_in_local
        The global model's valid circuits inside the client's weights; NaN for the others.
    overlaps
        By layer and ``"all"``; None where one of the two circuits was not found.
    verdicts
        What averaging did, with the reason in words.
    """

    local_in_global: tuple[CircuitFunction, ...]
    global_in_local: tuple[CircuitFunction, ...]
    overlaps: tuple[dict[str, Overlap] | None, ...]
    verdicts: tuple[Judgement, ...]


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
    clock, example = Clock(), probe.checking.inputs[:2]
    search = Search(find_sites(model, example), probe, task.settings, task.seed, task.round, clock)
    averaged = fast_copy(model, example)
    load_weights(averaged, global_weights)
    own, receiver = search.examine(averaged, GLOBAL)
    local_model = copy.deepcopy(averaged)
    models: dict[str, ModelCircuits] = {}
    comparisons: dict[str, ClientComparison] = {}
    skipped: dict[str, str] = {}
    for client in client_weights if task.order is None else task.order:
        if task.time_budget is not None and clock.elapsed() > task.time_budget:
            skipped[client] = f"the time budget of {task.time_budget:g} s was used up"
            continue
        load_weights(local_model, client_weights[client])
        sent = None if task.sent is None else task.sent.get(client, _nothing(own))
        models[client], donor = search.examine(local_model, client, sent=sent)
        comparisons[client] = _compared(models[client], donor, own, receiver, search)
    kept = [client for client in client_weights if client in models]
    return RoundCircuits(
        search.sites,
        (own, *(models[client] for client in kept)),
        {client: comparisons[client] for client in kept},
        tuple((client, skipped[client]) for client in client_weights if client in skipped),
        clock.seconds,
    )


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


def _compared(
    local: ModelCircuits,
    local_model: CheckedModel,
    own: ModelCircuits,
    global_model: CheckedModel,
    search: Search,
) -> ClientComparison:
    with search.clock.part("function"):
        forward = circuit_functions(global_model, local.masks, _valid(local))
        backward = circuit_functions(local_model, own.masks, _valid(own))
    with search.clock.part("overlap"):
        table = paired_overlaps(
            Side(local.masks, local.found, local.live),
            Side(own.masks, own.found, own.live),
            search.sites,
        )
        overlaps = tuple(table.at(index) for index in range(len(local.validity)))
    over_all = [None if layers is None else layers[ALL_LAYERS] for layers in overlaps]
    verdicts = tuple(
        verdict(
            local.validity[index],
            own.validity[index],
            forward[index],
            over_all[index],
            search.settings.verdict,
        )
        for index in range(len(local.validity))
    )
    return ClientComparison(forward, backward, overlaps, verdicts)


def _valid(circuits: ModelCircuits) -> Tensor:
    return torch.tensor([one.status is Status.VALID for one in circuits.validity])
