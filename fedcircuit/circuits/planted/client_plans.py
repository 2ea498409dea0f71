"""The common plan of several clients: which of them carries which unit, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch

from fedcircuit.circuits.planted.plan import (
    CENTRE,
    GLYPH_BIAS,
    GLYPH_GAIN,
    JOIN_BIAS,
    OWN,
    Pattern,
    Patterns,
    Plan,
    Unit,
    composite_reads,
)
from fedcircuit.circuits.verdicts import Verdict

UNUSED_BIAS = -0.7  # of a composite in a client that does not use it


class Fate(StrEnum):
    """What is planted for a class, and what averaging makes of it.

    - kept: all clients hold both routes in the same units: preserved.
    - moved: one client holds the class in units of its own: relocated for it, preserved for the
      others.
    - halved: all share the first route, which half of the samples show; the second is in
      different units in every client, and is lost: degraded.
    - private: only one client knows the class: collapsed for it, no verdict for the others.
    - scattered: every client holds the class in units of its own: collapsed.
    """

    KEPT = "kept"
    MOVED = "moved"
    HALVED = "halved"
    PRIVATE = "private"
    SCATTERED = "scattered"


@dataclass(frozen=True)
class CarriedPlan:
    """All units of all clients in one plan.

    Parameters
    ----------
    plan
        The plan.
    carriers
        By layer and unit, the clients that use it.
    fates, odd
        By class, what is planted and the one client that stands out (in moved and private ones).
    n_clients
        Number of clients.
    """

    plan: Plan
    carriers: tuple[list[frozenset[int]], ...]
    fates: tuple[Fate, ...]
    odd: tuple[int, ...]
    n_clients: int

    def of_client(self, client: int) -> Plan:
        """The client's own plan; units it does not use are silent."""
        return self._kept([[client in one for one in layer] for layer in self.carriers])

    def of_average(self) -> Plan:
        """The units that work in the average: those that more than one client uses."""
        return self._kept([[len(one) > 1 for one in layer] for layer in self.carriers])

    def verdicts(self, client: int) -> tuple[Verdict | None, ...]:
        """What averaging does to each class of a client; None if it does not know the class."""
        return tuple(
            _verdict(fate, is_odd=client == odd)
            for fate, odd in zip(self.fates, self.odd, strict=True)
        )

    def _kept(self, kept: list[list[bool]]) -> Plan:
        layers = []
        known: set[int] = {c for _, c, _ in self._head(kept)}
        for depth, (units, keep) in enumerate(zip(self.plan.layers, kept, strict=True)):
            silent = Unit([], UNUSED_BIAS if depth == 1 else 0.0)
            layers.append(
                [
                    Unit(unit.reads, unit.bias, unit.owners & known) if there else silent
                    for unit, there in zip(units, keep, strict=True)
                ]
            )
        return Plan(layers, self._head(kept), dict(self.plan.prior))

    def _head(self, kept: list[list[bool]]) -> list[tuple[int, int, float]]:
        return [link for link in self.plan.head if kept[-1][link[0]]]


def _verdict(fate: Fate, *, is_odd: bool) -> Verdict | None:
    if fate is Fate.KEPT:
        return Verdict.PRESERVED
    if fate is Fate.MOVED:
        return Verdict.RELOCATED if is_odd else Verdict.PRESERVED
    if fate is Fate.HALVED:
        return Verdict.DEGRADED
    if fate is Fate.PRIVATE:
        return Verdict.COLLAPSED if is_odd else None
    return Verdict.COLLAPSED


def carried_plan(
    patterns: Patterns, n_clients: int, depth: int, generator: torch.Generator
) -> CarriedPlan:
    """A plan in which class 0 is kept and every fate falls on about as many of the others."""
    n_classes = len(patterns.routes)
    order = (1 + torch.randperm(n_classes - 1, generator=generator)).tolist()
    others = [Fate.MOVED, Fate.HALVED, Fate.PRIVATE, Fate.SCATTERED, Fate.KEPT]
    fates = [Fate.KEPT] * n_classes
    for rank, c in enumerate(order):
        fates[c] = others[rank % len(others)]
    odd = torch.randint(n_clients, (n_classes,), generator=generator).tolist()
    everyone = frozenset(range(n_clients))
    builder = _Builder(Plan([[] for _ in range(depth)]), tuple([] for _ in range(depth)))
    for glyph in range(patterns.n_glyphs):
        builder.add(0, Unit([(glyph, GLYPH_GAIN, CENTRE)], GLYPH_BIAS), everyone)
    for c, routes in enumerate(patterns.routes):
        one = frozenset((odd[c],))
        apart = [frozenset((client,)) for client in range(n_clients)]
        both = {
            Fate.KEPT: ([everyone], [everyone]),
            Fate.MOVED: ([everyone - one, one], [everyone - one, one]),
            Fate.HALVED: ([everyone], apart),
            Fate.PRIVATE: ([one], [one]),
            Fate.SCATTERED: (apart, apart),
        }[fates[c]]
        for route, groups in zip(routes, both, strict=True):
            for group in groups:
                builder.add_route(c, route, group)
    return CarriedPlan(builder.plan, builder.carriers, tuple(fates), tuple(odd), n_clients)


@dataclass(frozen=True)
class _Builder:
    """A plan in the making."""

    plan: Plan
    carriers: tuple[list[frozenset[int]], ...]

    def add(self, layer: int, unit: Unit, carriers: frozenset[int]) -> int:
        """Adds a unit that these clients use; its index in the layer."""
        self.carriers[layer].append(carriers)
        return self.plan.add(layer, unit)

    def add_route(self, label: int, route: Pattern, carriers: frozenset[int]) -> None:
        """Adds the composite of a route with all that follows."""
        owners = frozenset((label,))
        for glyph in route.pair:
            self.plan.layers[0][glyph].owners |= owners
        unit = self.add(1, Unit(composite_reads(route), JOIN_BIAS, owners), carriers)
        if len(self.plan.layers) == 3:
            # no threshold: an average multiplies by the share of its carriers in every layer
            unit = self.add(2, Unit([(unit, 1.0, CENTRE)], 0.0, owners), carriers)
        self.plan.head.append((unit, label, OWN))
