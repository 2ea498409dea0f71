"""The plan of a planted network: units and what they read, before they are laid out in weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch

Tap = tuple[int, int]  # row and column of a 3x3 kernel; a multilayer perceptron has no use for it
CENTRE: Tap = (1, 1)
# where the two glyphs of a pattern lie around its centre
ARRANGEMENTS: tuple[tuple[Tap, Tap], ...] = (((0, 0), (2, 2)), ((0, 2), (2, 0)))

GLYPH_GAIN, GLYPH_BIAS = 3.0, -2.0  # a glyph of amplitude 1 gives 1, one of 2/3 or less nothing
JOIN_GAIN, JOIN_BIAS = 1.5, -2.0  # two glyphs give 1, one of them nothing
RELAY_GAIN, RELAY_BIAS = 1.2, -0.2
OWN, GROUP, VETO, PRIOR, COMMON = 5.0, 2.0, -10.0, 1.0, 3.0  # what reaches the logits
LOUD = 3.0


@dataclass(frozen=True)
class Pattern:
    """Two glyphs in an arrangement around a centre."""

    first: int
    second: int
    arrangement: int = 0

    @property
    def pair(self) -> frozenset[int]:
        """The two glyphs."""
        return frozenset((self.first, self.second))


@dataclass(frozen=True)
class Patterns:
    """What inputs are made of.

    Parameters
    ----------
    n_glyphs
        Glyphs that patterns are made of; glyphs ``n_glyphs`` and ``n_glyphs + 1`` are background.
    routes
        For each class its two patterns.
    frequency
        Share of the first route among the samples of a class.
    vetoes
        By class, the pattern that says: not this class.
    groups
        By class, a pattern that all samples of two classes hold.
    """

    n_glyphs: int
    routes: tuple[tuple[Pattern, Pattern], ...]
    frequency: float
    vetoes: dict[int, Pattern]
    groups: dict[int, Pattern]

    @property
    def pairs(self) -> frozenset[frozenset[int]]:
        """All pairs of glyphs that mean something."""
        patterns = [one for routes in self.routes for one in routes]
        patterns += [*self.vetoes.values(), *self.groups.values()]
        return frozenset(pattern.pair for pattern in patterns)


@dataclass
class Unit:
    """A unit of the plan: ``relu(sum of weight * source + bias)``."""

    reads: list[tuple[int, float, Tap]]
    bias: float
    owners: frozenset[int] = frozenset()


@dataclass
class Plan:
    """All units, layer by layer, and what the head reads: ``(unit, class, weight)``."""

    layers: list[list[Unit]]
    head: list[tuple[int, int, float]] = field(default_factory=list)
    prior: dict[int, float] = field(default_factory=dict)

    def add(self, layer: int, unit: Unit) -> int:
        """Adds a unit; its index in the layer."""
        self.layers[layer].append(unit)
        return len(self.layers[layer]) - 1


def draw_patterns(
    n_classes: int, cases: frozenset[str], generator: torch.Generator, *, arranged: bool
) -> Patterns:
    """Patterns of every class.

    Parameters
    ----------
    n_classes, cases
        Size and hard cases.
    arranged
        Whether two arrangements of the same glyphs are two patterns: so in an image, not in a
        vector.

    Raises
    ------
    ValueError
        If there are too few classes.
    """
    if n_classes < 3:
        raise ValueError(f"a planted network needs 3 classes or more, got {n_classes}")
    for _ in range(1000):
        patterns = _drawn(n_classes, cases, generator, arranged=arranged)
        if _unambiguous(patterns):
            return patterns
    raise ValueError(f"found no patterns for {n_classes} classes with {sorted(cases)}")


def _drawn(
    n_classes: int, cases: frozenset[str], generator: torch.Generator, *, arranged: bool
) -> Patterns:
    order = torch.randperm(n_classes, generator=generator).tolist()
    vetoed = order[: min(3, n_classes - 2)] if "veto" in cases else []
    frequency = 0.7 if "two_routes" in cases else 0.5
    if "shared" not in cases:
        step = 2 if arranged else 4
        routes = tuple(
            (Pattern(g, g + 1), Pattern(g, g + 1, 1) if arranged else Pattern(g + 2, g + 3))
            for g in range(0, step * n_classes, step)
        )
        start = step * n_classes
        vetoes = {c: Pattern(start + 2 * i, start + 2 * i + 1) for i, c in enumerate(vetoed)}
        return Patterns(start + 2 * len(vetoes), routes, frequency, vetoes, {})
    n_glyphs = max(20, round(2.4 * n_classes))
    grouped = [order[-2:], order[-4:-2]] if n_classes >= 4 else [order[-2:]]
    drawn = _pairs(n_glyphs, 2 * n_classes + len(vetoed) + len(grouped), generator)
    routes = tuple((drawn[2 * c], drawn[2 * c + 1]) for c in range(n_classes))
    rest = drawn[2 * n_classes :]
    vetoes = dict(zip(vetoed, rest, strict=False))
    groups = {
        c: pattern
        for classes, pattern in zip(grouped, rest[len(vetoed) :], strict=True)
        for c in classes
    }
    return Patterns(n_glyphs, routes, frequency, vetoes, groups)


def _pairs(n_glyphs: int, count: int, generator: torch.Generator) -> list[Pattern]:
    """Different pairs of glyphs, every glyph in about as many."""
    uses, chosen = torch.zeros(n_glyphs), list[Pattern]()
    taken: set[frozenset[int]] = set()
    while len(chosen) < count:
        ranked = (uses + 0.9 * torch.rand(n_glyphs, generator=generator)).argsort().tolist()
        for first, second in combinations(ranked[:4], 2):
            if frozenset((first, second)) not in taken:
                chosen.append(Pattern(first, second))
                taken.add(chosen[-1].pair)
                uses[[first, second]] += 1
                break
        else:
            uses[ranked[:4]] += 1  # these four know one another already
    return chosen


def implied(glyphs: frozenset[int], pairs: frozenset[frozenset[int]]) -> int:
    """How many meaningful pairs a bag of glyphs holds."""
    return sum(pair <= glyphs for pair in pairs)


def _unambiguous(patterns: Patterns) -> bool:
    """Patterns can stand together in a scene, and hold no further one by accident.

    So it must be for each route of a class with what all its samples show, and for at least one
    bait beside them.
    """
    pairs = patterns.pairs

    def fits(bundle: Sequence[Pattern]) -> bool:
        together = frozenset[int]().union(*(one.pair for one in bundle))
        return implied(together, pairs) == len(bundle)

    for c, routes in enumerate(patterns.routes):
        baits = [
            [bait, veto]
            for other, veto in patterns.vetoes.items()
            for bait in patterns.routes[other]
            if other != c
        ]
        for route in routes:
            own = [route, *([patterns.groups[c]] if c in patterns.groups else [])]
            if not fits(own) or (baits and not any(fits(own + bait) for bait in baits)):
                return False
    return True


def make_plan(patterns: Patterns, cases: frozenset[str], depth: int) -> Plan:
    """The units of a network of ``depth`` hidden layers, 2 or 3."""
    plan = Plan([[] for _ in range(depth)])
    owners: dict[int, set[int]] = {glyph: set() for glyph in range(patterns.n_glyphs)}
    for glyph in owners:
        plan.add(0, Unit([(glyph, GLYPH_GAIN, CENTRE)], GLYPH_BIAS))
    links: list[tuple[Pattern, dict[int, float], int]] = []  # pattern, weights, copies
    for c, routes in enumerate(patterns.routes):
        for index, route in enumerate(routes):
            copies = (2, 3, 1)[(2 * c + index) % 3] if "redundant" in cases else 1
            links.append((route, {c: OWN}, copies))
    links += [(pattern, {c: VETO}, 1) for c, pattern in patterns.vetoes.items()]
    for pattern in dict.fromkeys(patterns.groups.values()):
        classes = [c for c, one in patterns.groups.items() if one == pattern]
        links.append((pattern, dict.fromkeys(classes, GROUP), 1))
    for pattern, weights, copies in links:
        for glyph in pattern.pair:
            owners[glyph] |= set(weights)
        for _ in range(copies):
            _composite(plan, pattern, {c: w / copies for c, w in weights.items()})
    for glyph, classes_ in owners.items():
        plan.layers[0][glyph].owners = frozenset(classes_)
    return plan


def composite_reads(pattern: Pattern, gain: float = JOIN_GAIN) -> list[tuple[int, float, Tap]]:
    """What the composite of a pattern reads: its two glyphs, where they lie."""
    first, second = ARRANGEMENTS[pattern.arrangement]
    return [(pattern.first, gain, first), (pattern.second, gain, second)]


def _composite(plan: Plan, pattern: Pattern, weights: dict[int, float]) -> None:
    unit = plan.add(1, Unit(composite_reads(pattern), JOIN_BIAS, frozenset(weights)))
    link(plan, unit, weights)


def link(plan: Plan, unit: int, weights: dict[int, float]) -> None:
    """Lets the head read a unit of the second layer, by a relay where there is a third."""
    if len(plan.layers) == 3:
        owners = plan.layers[1][unit].owners
        unit = plan.add(2, Unit([(unit, RELAY_GAIN, CENTRE)], RELAY_BIAS, owners))
    plan.head += [(unit, c, weight) for c, weight in weights.items()]
