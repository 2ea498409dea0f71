"""Weight matching: bring the units of all clients into one order before they are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedcircuit.aggregation import (
    NO_STATE,
    Floats,
    RuleError,
    Setting,
    State,
    Update,
    Updates,
    floating,
    result,
)
from fedcircuit.aggregation.layers.chain import Link, Permutation, chain, inputs_of, permuted
from fedcircuit.aggregation.layers.repair import repaired
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class WeightMatching:
    """Align units by their weights, then average (Ainsworth et al. 2022, arXiv 2209.04836).

    Layer by layer from the front, the units of a client are matched with those of the client of the
    most samples (of equal ones the first) so that the inner product of their incoming weights is
    largest; then layer after layer again by incoming and outgoing weights, until nothing moves.
    A matching that is no better than none is dropped. Where no client's units move, and that is
    so with a common start, the average is given back as it is. Sequential networks alone.

    REPAIR (Jordan et al. 2022, arXiv 2211.08403) then gives every unit of the new average the mean
    and spread that it has in the clients; batch norm gets the statistics of the probe.

    Parameters
    ----------
    sweeps
        Most passes by incoming and outgoing weights.
    repair
        None: where there is a probe and units have moved; True: always, False: never.

    Raises
    ------
    ValueError
        If the number of sweeps is negative.
    """

    name: ClassVar[str] = "weight-matching"

    sweeps: int = 10
    repair: bool | None = None

    def __post_init__(self) -> None:
        if self.sweeps < 0:
            raise ValueError(f"sweeps must be >= 0, got {self.sweeps}")

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average of the aligned clients."""
        links = chain(self.name, setting.model, updates)
        if self.repair and setting.probe is None:
            raise RuleError(self.name, "REPAIR needs a probe; give one, or repair=False")
        anchor = min(updates.clients, key=lambda update: (-update.num_examples, update.client))
        places = [self.places(anchor, update, links) for update in updates.clients]
        stay = all(np.array_equal(order, np.arange(len(order))) for own in places for order in own)
        aligned = [
            permuted(update.weights, links, own)
            for update, own in zip(updates.clients, places, strict=True)
        ]
        merged = average
        if not stay:
            names = floating(updates.clients[0].weights)
            merged = result(average, {n: _mean(aligned, updates.shares, n) for n in names})
        wanted = not stay if self.repair is None else self.repair
        if wanted and setting.probe is not None and setting.model is not None:
            merged = repaired(
                self.name, setting.model, merged, (aligned, updates.shares), setting.probe.inputs
            )
        return merged, NO_STATE

    def places(self, anchor: Update, update: Update, links: Sequence[Link]) -> list[Permutation]:
        """For each layer but the last, which of the client's units is like each of the anchor's."""
        n_units = [len(anchor.weights[f"{link.layer}.weight"]) for link in links[:-1]]
        none = [np.arange(n) for n in n_units]
        if update is anchor:
            return none
        places = list(none)
        for layer in range(len(n_units)):  # front to back
            now = permuted(update.weights, links, places)
            places[layer] = _best(_incoming(anchor.weights, now, links[layer]), places[layer])
        for _ in range(self.sweeps):
            before = [order.copy() for order in places]
            for layer, n in enumerate(n_units):
                now = permuted(update.weights, links, places)
                alike = _incoming(anchor.weights, now, links[layer])
                alike += _outgoing(anchor.weights, now, links[layer + 1], n)
                places[layer] = _best(alike, places[layer])
            if all(np.array_equal(a, b) for a, b in zip(before, places, strict=True)):
                break
        found = _agreement(anchor.weights, permuted(update.weights, links, places), links)
        return places if found > _agreement(anchor.weights, update.weights, links) else none


def _best(alike: Floats, order: Permutation) -> Permutation:
    """The order after matching rows of the anchor with columns of the client as it is ordered.

    What gains nothing beyond rounding is left as it is.
    """
    from scipy.optimize import linear_sum_assignment  # takes half a second

    rows, columns = linear_sum_assignment(alike, maximize=True)
    gain = alike[rows, columns].sum() - np.trace(alike)
    scale = np.abs(alike).max(initial=0.0) * len(alike)
    return order if gain <= 1e-9 * scale else order[columns]


def _rows(weights: Weights, link: Link) -> Floats:
    parts = [
        np.asarray(weights[name], np.float64).reshape(len(weights[name]), -1)
        for name in link.learned()
        if name in weights
    ]
    return np.concatenate(parts, axis=1)


def _incoming(anchor: Weights, client: Weights, link: Link) -> Floats:
    """Inner products ``[anchor's units, client's units]`` of incoming weights."""
    alike: Floats = _rows(anchor, link) @ _rows(client, link).T
    return alike


def _outgoing(anchor: Weights, client: Weights, after: Link, units: int) -> Floats:
    """The same of the weights with which the next layer reads them."""
    one, other = (
        np.asarray(inputs_of(weights[f"{after.layer}.weight"], units), np.float64)
        for weights in (anchor, client)
    )
    alike: Floats = np.einsum("oie,oje->ij", one, other)
    return alike


def _agreement(anchor: Weights, client: Weights, links: Sequence[Link]) -> float:
    return sum(float((_rows(anchor, link) * _rows(client, link)).sum()) for link in links)


def _mean(aligned: Sequence[Weights], shares: Floats, name: str) -> Floats:
    total = np.zeros(aligned[0][name].shape)
    for share, weights in zip(shares, aligned, strict=True):
        total += share * np.asarray(weights[name], np.float64)
    return total
