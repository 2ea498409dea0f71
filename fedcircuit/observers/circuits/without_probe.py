"""What cannot be known is named: a round without a probe, or without the clients' weights.

What clients found themselves, and sent, is recorded in either case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.models import copied
from fedcircuit.circuits.overlap import Overlap, Side, paired_overlaps
from fedcircuit.circuits.paths import live_units
from fedcircuit.circuits.round import SentCircuits
from fedcircuit.learning import Weights, set_weights
from fedcircuit.observers.circuits.circuit_tables import (
    mask_arrays,
    models_table,
    rounded,
    sites_table,
    validity_table,
)
from fedcircuit.observers.circuits.overlap_tables import overlap_row
from fedcircuit.records.rounds import Cell, ClientRecord, Observation, Table

_WHY = "needs labelled samples on the server, and there is no probe"
UNAVAILABLE = (
    ("global circuits", _WHY),
    ("function", _WHY),
    ("overlap", _WHY + "; overlaps among clients are in client_overlap"),
    ("verdicts", _WHY),
)
_HIDDEN = "needs every client's own weights, which secure aggregation keeps from the server"
UNSEEN = (
    ("circuits of clients", _HIDDEN + "; those that clients sent are recorded"),
    ("function", _HIDDEN),
    ("overlap", _HIDDEN + "; overlaps among what clients sent are in client_overlap"),
    ("verdicts", _HIDDEN),
)
COLUMNS = (
    "client_a", "client_b", "class", "layer", "iou", "chance", "adjusted", "p_value", "size_a",
    "size_b", "intersection", "pool",
)  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """A model whose weights do not matter, its sites, one input and the number of classes."""

    model: nn.Module
    sites: tuple[Site, ...]
    example: Tensor
    n_classes: int

    @property
    def n_units(self) -> int:
        """Units of all sites."""
        return sum(site.n_units for site in self.sites)


@dataclass(frozen=True)
class Reported:
    """What clients sent of their own circuits.

    Parameters
    ----------
    clients, sent
        Clients looked at, and by client what they sent.
    unreadable
        Whose circuits could not be read, with the reason.
    after
        The average: it stands in for weights that are hidden where live units are counted.
    """

    clients: Sequence[ClientRecord]
    sent: Mapping[str, SentCircuits]
    unreadable: tuple[tuple[str, str], ...]
    after: Weights

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Who is left out and why; who sent nothing is among them."""
        out = {*self.sent, *dict(self.unreadable)}
        silent = [record.client for record in self.clients if record.client not in out]
        return (*self.unreadable, *((client, "the client sent no circuits") for client in silent))


def unprobed_observation(architecture: Architecture, reported: Reported) -> Observation:
    """The circuits that clients sent, their own checks, and the overlaps among them."""
    own = _sent_circuits(architecture, reported)
    tables = {
        "sites": sites_table(architecture.sites, torch.from_numpy(own.arrays["live"]).any(0)),
        **own.tables,
        "unavailable": Table(("part", "reason"), UNAVAILABLE),
        "skipped": Table(("client", "reason"), reported.skipped),
    }
    return Observation({name: rounded(table) for name, table in tables.items()}, own.arrays)


def with_hidden(seen: Observation, architecture: Architecture, hidden: Reported) -> Observation:
    """What was seen of a round, and what clients sent of themselves whose weights are hidden."""
    own = _sent_circuits(architecture, hidden)
    tables = dict(seen.tables)
    for name in ("models", "validity"):
        table = own.tables[name]
        tables[name] = Table(table.columns, (*tables[name].rows, *rounded(table).rows))
    tables["client_overlap"] = rounded(own.tables["client_overlap"])
    tables["unavailable"] = Table(("part", "reason"), UNSEEN)
    rows = (*tables["skipped"].rows, *hidden.skipped)
    tables["skipped"] = Table(("client", "reason"), rows)
    n_own = len(own.arrays["masks"])
    arrays = {
        name: np.concatenate(
            [values, own.arrays[name] if name in own.arrays else _undefined(values, n_own)]
        )
        for name, values in seen.arrays.items()
    }
    return Observation(tables, arrays)


def _undefined(values: NDArray[np.generic], n_models: int) -> NDArray[np.generic]:
    """NaN for models that have no such values: nobody sends scores."""
    return np.full((n_models, *values.shape[1:]), np.nan, dtype=values.dtype)


def _sent_circuits(architecture: Architecture, reported: Reported) -> Observation:
    """Tables ``models``, ``validity`` and ``client_overlap``, and the masks, of what was sent."""
    sent = reported.sent
    here = [record for record in reported.clients if record.client in sent]
    n_classes, n_units = architecture.n_classes, architecture.n_units
    empty = torch.zeros(0, n_classes, n_units, dtype=torch.bool)
    masks = torch.cat([empty, *(sent[record.client].masks[None] for record in here)])
    found = torch.cat([empty[..., 0], *(sent[record.client].found[None] for record in here)])
    live = torch.cat(
        [empty[:, 0], *(_live(architecture, r.weights or reported.after)[None] for r in here)]
    )
    names = [record.client for record in here]
    checks = {name: sent[name].validity for name in names}
    tables = {
        "models": models_table(names),
        "validity": validity_table({k: v for k, v in checks.items() if v is not None}),
        "client_overlap": _client_overlap(architecture, names, masks, found, live),
    }
    return Observation(tables, mask_arrays(masks, found, live))


def _live(architecture: Architecture, weights: Weights) -> Tensor:
    model = copied(architecture.model)
    set_weights(model, weights)
    return live_units(model, architecture.sites, architecture.example)


def _client_overlap(
    architecture: Architecture, names: Sequence[str], masks: Tensor, found: Tensor, live: Tensor
) -> Table:
    """Overlap over all layers of every two clients' circuits of the same class."""
    pairs = list(combinations(range(len(names)), 2))
    rows: list[tuple[Cell, ...]] = []
    if pairs:
        a, b = torch.tensor(pairs).T
        for index in range(architecture.n_classes):
            table = paired_overlaps(
                Side(masks[a, index], found[a, index], live[a]),
                Side(masks[b, index], found[b, index], live[b]),
                architecture.sites,
            )
            for row, (first, second) in enumerate(pairs):
                layers: dict[str, Overlap] = table.at(row) or {}
                rows += [
                    (names[first], names[second], index, *overlap_row(layer, overlap))
                    for layer, overlap in layers.items()
                ]
    return Table(COLUMNS, tuple(rows))
