"""What the inputs of a planted network show: which glyphs, where, how strong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits.planted.plan import ARRANGEMENTS, CENTRE, Pattern, Patterns

N_SLOTS = 9
NOTHING = -1
N_LONE = 2  # glyphs that stand alone in every scene
ATTEMPTS = 300
BAIT_SHARE = 0.5  # of the scenes, where there are vetoes


@dataclass(frozen=True)
class Scenes:
    """Glyphs of ``n`` inputs, up to ``m`` in each.

    Parameters
    ----------
    glyphs
        ``[n, m]`` int64, ``-1`` for none.
    slots
        ``[n, m]`` int64: which of nine places of a pattern.
    taps
        ``[n, m, 2]`` int64: row and column around the centre of the slot, 0 to 2.
    amplitudes
        ``[n, m]`` float.
    labels
        ``[n]`` int64.
    """

    glyphs: Tensor
    slots: Tensor
    taps: Tensor
    amplitudes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class _Table:
    """The patterns as tensors: index, two glyphs, two taps."""

    glyphs: Tensor  # [patterns, 2]
    taps: Tensor  # [patterns, 2, 2]
    routes: Tensor  # [classes, 2] pattern
    vetoes: Tensor  # [classes] pattern, or NOTHING
    groups: Tensor  # [classes] pattern, or NOTHING
    pairs: Tensor  # [pairs, 2] glyphs

    @classmethod
    def of(cls, patterns: Patterns) -> _Table:
        listed: list[Pattern] = []

        def index(pattern: Pattern | None) -> int:
            if pattern is None:
                return NOTHING
            if pattern not in listed:
                listed.append(pattern)
            return listed.index(pattern)

        classes = range(len(patterns.routes))
        routes = torch.tensor([[index(one) for one in pair] for pair in patterns.routes])
        vetoes = torch.tensor([index(patterns.vetoes.get(c)) for c in classes])
        groups = torch.tensor([index(patterns.groups.get(c)) for c in classes])
        return cls(
            torch.tensor([[one.first, one.second] for one in listed]),
            torch.tensor([ARRANGEMENTS[one.arrangement] for one in listed]),
            routes,
            vetoes,
            groups,
            torch.tensor(sorted(sorted(pair) for pair in patterns.pairs)),
        )


def draw_scenes(
    patterns: Patterns, labels: Tensor, generator: torch.Generator, *, background: bool
) -> Scenes:
    """A scene for every label ``[n]``.

    It shows a route of the class, two lone glyphs, half of the time the pattern of another class
    with its veto, and background glyphs of any amplitude. No two glyphs of a meaningful pair are
    together by accident: such scenes are drawn again.
    """
    table, n = _Table.of(patterns), len(labels)
    first = _first_route(labels, patterns.frequency, generator)
    own = table.routes[labels, (~first).long()]
    baited = torch.rand(n, generator=generator) < (BAIT_SHARE if patterns.vetoes else 0.0)
    shown = torch.full((n, 4), NOTHING)  # own, group, bait, veto
    lone = torch.zeros(n, N_LONE, dtype=torch.long)
    pending = torch.arange(n)
    for attempt in range(2 * ATTEMPTS):
        if attempt == ATTEMPTS:
            baited[pending] = False  # no bait fits beside what these scenes show
        tried, alone = _tried(table, labels[pending], own[pending], baited[pending], generator)
        shown[pending], lone[pending] = tried, alone % patterns.n_glyphs
        clear = _clear(table, patterns.n_glyphs, shown[pending], lone[pending])
        pending = pending[~clear]
        if len(pending) == 0:
            return _placed(table, patterns, (shown, lone, labels), generator, background=background)
    raise RuntimeError(f"{len(pending)} scenes could not be drawn without an accidental pattern")


def _first_route(labels: Tensor, frequency: float, generator: torch.Generator) -> Tensor:
    """Which samples show the first route, ``[n]`` bool: the same share in every class."""
    first = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(int(labels.max()) + 1 if len(labels) else 0):
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        first[members[: round(frequency * len(members))]] = True
    return first


def _tried(
    table: _Table, labels: Tensor, own: Tensor, baited: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Patterns ``[n, 4]`` of each scene and lone glyphs ``[n, 2]`` (any number)."""
    n = len(labels)
    vetoed = (table.vetoes >= 0).nonzero().flatten()
    bait = veto = torch.full((n,), NOTHING)
    if len(vetoed):
        other = vetoed[torch.randint(len(vetoed), (n,), generator=generator)]
        route = torch.randint(2, (n,), generator=generator)
        wanted = baited & (other != labels)
        bait = torch.where(wanted, table.routes[other, route], NOTHING)
        veto = torch.where(wanted, table.vetoes[other], NOTHING)
        # a class whose own veto was drawn shows no bait
    alone = torch.randint(2**31, (n, N_LONE), generator=generator)
    return torch.stack([own, table.groups[labels], bait, veto], 1), alone


def _clear(table: _Table, n_glyphs: int, shown: Tensor, lone: Tensor) -> Tensor:
    """Whether every meaningful pair of a scene is one that was meant, ``[n]`` bool."""
    present = torch.zeros(len(shown), n_glyphs + 1, dtype=torch.long)
    glyphs = torch.where(shown.unsqueeze(2) >= 0, table.glyphs[shown.clamp(min=0)], n_glyphs)
    present.scatter_add_(1, glyphs.flatten(1), torch.ones_like(glyphs.flatten(1)))
    doubled = (present[:, :n_glyphs] > 0).gather(1, lone).any(1) | (lone[:, 0] == lone[:, 1])
    present.scatter_(1, lone, 1)
    there = present[:, table.pairs[:, 0]].bool() & present[:, table.pairs[:, 1]].bool()
    return (there.sum(1) == (shown >= 0).sum(1)) & ~doubled


def _placed(
    table: _Table,
    patterns: Patterns,
    drawn: tuple[Tensor, Tensor, Tensor],
    generator: torch.Generator,
    *,
    background: bool,
) -> Scenes:
    """Slots, taps and amplitudes for patterns ``[n, 4]`` and lone glyphs ``[n, 2]``."""
    shown, lone, labels = drawn
    n = len(labels)
    there = (shown >= 0).unsqueeze(2)
    index = shown.clamp(min=0)
    glyphs = torch.where(there, table.glyphs[index], NOTHING).flatten(1)  # [n, 8]
    taps = table.taps[index].flatten(1, 2)  # [n, 8, 2]
    corners = torch.tensor([tap for pair in ARRANGEMENTS for tap in pair])
    at = torch.randint(len(corners), (n, N_LONE), generator=generator)
    noise = patterns.n_glyphs + torch.arange(2).expand(n, 2)
    off = torch.full((n, 2), NOTHING)
    glyphs = torch.cat([glyphs, lone, noise if background else off], 1)
    taps = torch.cat([taps, corners[at], torch.tensor(CENTRE).expand(n, 2, 2)], 1)
    order = torch.rand(n, N_SLOTS, generator=generator).argsort(1)
    slots = order[:, [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7]]
    amplitudes = 0.95 + 0.1 * torch.rand(glyphs.shape, generator=generator)
    amplitudes[:, -2:] = 0.4 + 0.7 * torch.rand(n, 2, generator=generator)
    return Scenes(glyphs, slots, taps, amplitudes, labels)
