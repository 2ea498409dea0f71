"""From cases to a planted network: what is drawn, and what is built of it, whatever the layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits.planted.decoys import add_decoys
from fedcircuit.circuits.planted.layout import (
    Order,
    make_dense,
    true_edges,
    true_units,
    write_plan,
)
from fedcircuit.circuits.planted.network import Density, PlantedNetwork, Sampler, checked_cases
from fedcircuit.circuits.planted.plan import Patterns, Plan, draw_patterns, make_plan
from fedcircuit.circuits.sites import find_sites


@dataclass(frozen=True)
class Drawing:
    """What follows from cases and seed before there is a network: its plan, in a drawn order."""

    cases: frozenset[str]
    n_classes: int
    seed: int
    patterns: Patterns
    plan: Plan
    order: Order
    glyphs: Tensor
    generator: torch.Generator

    @property
    def noisy_background(self) -> bool:
        """Whether inputs show glyphs that belong to no class."""
        return bool(self.cases & {"distractors", "cancelling"})


def drawn(
    cases: Collection[str],
    n_classes: int,
    seed: int,
    widths: Sequence[int],
    glyphs: Callable[[int, torch.Generator], Tensor],
    *,
    depth: int,
    arranged: bool,
) -> Drawing:
    """Draw patterns, plan, order of units and glyphs, one after the other from one generator.

    Parameters
    ----------
    cases, n_classes, seed, widths
        As `planted_cnn` takes them.
    glyphs
        Draws so many of them.
    depth
        Layers of units.
    arranged
        Whether patterns are told apart by where their glyphs lie.

    Raises
    ------
    ValueError
        If a case is unknown or the plan does not fit into the widths.
    """
    chosen = checked_cases(cases)
    generator = torch.Generator().manual_seed(seed)
    patterns = draw_patterns(n_classes, chosen, generator, arranged=arranged)
    plan = make_plan(patterns, chosen, depth=depth)
    add_decoys(plan, patterns, chosen, generator)
    order = Order.draw(plan, widths, generator)
    made = glyphs(patterns.n_glyphs + 2, generator)
    return Drawing(chosen, n_classes, seed, patterns, plan, order, made, generator)


def built(
    drawing: Drawing,
    model: nn.Sequential,
    readers: Tensor,
    example: Tensor,
    sampler: Sampler,
    density: Density,
) -> PlantedNetwork:
    """Write the plan into a network, and its truth beside it.

    Parameters
    ----------
    drawing, model, density
        What is written, into which layers, and whether their zeros stay.
    readers
        Weights with which a unit of the first layer reads each glyph, ``[glyphs, ...]``.
    example
        One input, ``[1, ...]``.
    sampler
        Draws inputs that show the patterns.
    """
    layers = [layer for layer in model if isinstance(layer, nn.Conv2d | nn.Linear)]
    write_plan(drawing.plan, drawing.order, layers, readers)
    if density == "dense":
        make_dense(layers, drawing.generator)
    sites = find_sites(model, example)
    every_input = torch.ones(example.shape[1], dtype=torch.bool)
    plan, order, n_classes = drawing.plan, drawing.order, drawing.n_classes
    return PlantedNetwork(
        model.eval(),
        sites,
        true_units(plan, order, n_classes),
        true_edges(plan, order, sites, n_classes, every_input),
        sampler,
        tuple(f"class {c}" for c in range(n_classes)),
        drawing.cases,
        drawing.seed,
    )
