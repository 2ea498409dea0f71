"""Units of a plan that belong to no circuit: distractors, cancelling pairs, dead units, a prior."""

from __future__ import annotations

import torch

from fedcircuit.circuits.planted.plan import (
    CENTRE,
    COMMON,
    GLYPH_BIAS,
    GLYPH_GAIN,
    JOIN_BIAS,
    JOIN_GAIN,
    LOUD,
    OWN,
    PRIOR,
    RELAY_BIAS,
    Patterns,
    Plan,
    Unit,
    composite_reads,
    link,
)


def add_decoys(
    plan: Plan, patterns: Patterns, cases: frozenset[str], generator: torch.Generator
) -> None:
    """Adds the units of those cases that change no truth, and the prior."""
    n_classes = len(patterns.routes)
    if "distractors" in cases:
        _add_distractors(plan, patterns)
    if "cancelling" in cases:
        _add_cancelling(plan, patterns, generator)
    if "dead" in cases:
        _add_dead(plan, patterns, generator)
    if "prior" in cases:
        plan.prior[int(torch.randint(n_classes, (1,), generator=generator))] = PRIOR


def _detector(plan: Plan, glyph: int, loudness: float) -> int:
    return plan.add(0, Unit([(glyph, GLYPH_GAIN * loudness, CENTRE)], GLYPH_BIAS * loudness))


def _add_distractors(plan: Plan, patterns: Patterns) -> None:
    """Loud units nobody reads, two of them selective for a class, and a common mode."""
    n_classes = len(patterns.routes)
    loud = _detector(plan, patterns.n_glyphs, LOUD)
    common = _detector(plan, patterns.n_glyphs + 1, 1.0)
    plan.add(1, Unit([(loud, LOUD / 2, CENTRE)], 0.0))
    for c in range(2):
        reads = composite_reads(patterns.routes[c][0], LOUD * JOIN_GAIN)
        plan.add(1, Unit(reads, LOUD * JOIN_BIAS))
    moving = plan.add(1, Unit([(common, 1.0, CENTRE)], 0.0))
    link(plan, moving, dict.fromkeys(range(n_classes), COMMON))
    if len(plan.layers) == 3:
        plan.add(2, Unit([(0, LOUD, CENTRE)], 0.0))  # follows a class, and nobody reads it
        plan.add(2, Unit([(moving, LOUD, CENTRE)], 0.0))


def _add_cancelling(plan: Plan, patterns: Patterns, generator: torch.Generator) -> None:
    """Pairs with equal input and opposite outgoing weights, in every layer."""
    n_read = len(plan.layers[1])
    pair = [_detector(plan, patterns.n_glyphs, LOUD) for _ in range(2)]
    for target in torch.randperm(n_read, generator=generator)[: max(2, n_read // 3)].tolist():
        reads = [(pair[0], 1.0, CENTRE), (pair[1], -1.0, CENTRE)]
        plan.layers[1][target].reads += reads
    second = [plan.add(1, Unit([(pair[0], 1.0, CENTRE)], 0.0)) for _ in range(2)]
    last = second
    if len(plan.layers) == 3:
        n_read = len(plan.layers[2])
        for target in torch.randperm(n_read, generator=generator)[: n_read // 3].tolist():
            plan.layers[2][target].reads += [(second[0], 1.0, CENTRE), (second[1], -1.0, CENTRE)]
        last = [plan.add(2, Unit([(second[0], 1.0, CENTRE)], 0.0)) for _ in range(2)]
    for c in range(len(patterns.routes)):
        weight = float(torch.randn((), generator=generator)) * LOUD
        plan.head += [(last[0], c, weight), (last[1], c, -weight)]


def _add_dead(plan: Plan, patterns: Patterns, generator: torch.Generator) -> None:
    """In every layer a unit without input, one never active, one that nobody reads."""
    n_classes = len(patterns.routes)
    for layer in range(len(plan.layers)):
        source = int(torch.randint(patterns.n_glyphs, (1,), generator=generator))
        silent = [
            plan.add(layer, Unit([], RELAY_BIAS)),
            plan.add(layer, Unit([(source, 1.0, CENTRE)], -100.0)),
        ]
        if layer > 0:
            plan.add(layer, Unit([(source, 1.0, CENTRE)], 0.0))  # active, but nobody reads it
        for unit in silent:
            if layer + 1 < len(plan.layers):
                plan.layers[layer + 1][0].reads.append((unit, 1.0, CENTRE))
            else:
                plan.head.append((unit, source % n_classes, OWN))
