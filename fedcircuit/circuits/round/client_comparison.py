"""Every client's circuits against the global model's: function both ways, overlap, verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits.checks import CheckedModel, Status
from fedcircuit.circuits.overlap import ALL_LAYERS, Overlap, Side, paired_overlaps
from fedcircuit.circuits.round.model_circuits import ModelCircuits, Search, circuit_functions
from fedcircuit.circuits.verdicts import CircuitFunction, Judgement, VerdictThresholds, verdict


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


def compared(
    locals_: Sequence[ModelCircuits],
    subject: CheckedModel,
    owners: Sequence[int],
    known: tuple[ModelCircuits, CheckedModel],
    search: Search,
) -> list[ClientComparison]:
    """Every client against the global model, in the order given.

    Parameters
    ----------
    locals_, subject, owners
        Circuits of the clients, the models they are of, and which of these each one is.
    known
        The global model's circuits, and the models of which it is the first.
    search
        Clock and settings.
    """
    own, receiver = known
    if not locals_:
        return []
    n_classes, sites = len(own.validity), search.sites
    each = torch.arange(n_classes)
    masks = torch.cat([one.masks for one in locals_])
    found = torch.cat([one.found for one in locals_])
    with search.clock.part("function"):
        forward = circuit_functions(
            receiver,
            masks,
            torch.cat([_valid(one) for one in locals_]),
            tasks=each.repeat(len(locals_)),
        )
        backward = circuit_functions(
            subject,
            own.masks.repeat(len(locals_), 1),
            _valid(own).repeat(len(locals_)),
            tasks=(torch.tensor(owners)[:, None] * n_classes + each).flatten(),
        )
    with search.clock.part("overlap"):
        live = torch.stack([one.live for one in locals_]).repeat_interleave(n_classes, 0)
        theirs = Side(own.masks.repeat(len(locals_), 1), own.found.repeat(len(locals_)), own.live)
        table = paired_overlaps(Side(masks, found, live), theirs, sites)
    functions = zip(forward, backward, strict=True)
    rows = [(one, table.at(row)) for row, one in enumerate(functions)]
    parts = (rows[start : start + n_classes] for start in range(0, len(rows), n_classes))
    return [
        _judged(local, own, part, search.settings.verdict)
        for local, part in zip(locals_, parts, strict=True)
    ]


def _judged(
    local: ModelCircuits,
    own: ModelCircuits,
    rows: Sequence[tuple[tuple[CircuitFunction, CircuitFunction], dict[str, Overlap] | None]],
    thresholds: VerdictThresholds,
) -> ClientComparison:
    """The comparison of one client, from functions and overlaps of every class."""
    functions, overlaps = zip(*rows, strict=True)
    forward, backward = zip(*functions, strict=True)
    over_all = [None if layers is None else layers[ALL_LAYERS] for layers in overlaps]
    verdicts = tuple(
        verdict(mine, other, function, overlap, thresholds)
        for mine, other, function, overlap in zip(
            local.validity, own.validity, forward, over_all, strict=True
        )
    )
    return ClientComparison(forward, backward, overlaps, verdicts)


def _valid(circuits: ModelCircuits) -> Tensor:
    return torch.tensor([one.status is Status.VALID for one in circuits.validity])
