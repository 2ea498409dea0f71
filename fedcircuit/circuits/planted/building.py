"""From cases to a planted network: what is drawn, and what is built of it, whatever the layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits.planted.decoys import add_decoys
from fedcircuit.circuits.planted.layout import (
    Order,
    layers_of,
    make_dense,
    true_edges,
    true_units,
    written,
)
from fedcircuit.circuits.planted.network import Density, PlantedNetwork, checked_cases
from fedcircuit.circuits.planted.plan import Patterns, draw_patterns, make_plan
from fedcircuit.circuits.planted.scenes import Scenes, draw_scenes
from fedcircuit.circuits.sites import find_sites
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class Medium:
    """What glyphs are made of, and the networks that read them: images, or vectors.

    Parameters
    ----------
    depth
        Layers of units.
    arranged
        Whether patterns are told apart by where their glyphs lie.
    glyphs
        Draws so many different ones, ``[glyphs, ...]``.
    shown
        Inputs ``[n, ...]`` that show scenes of glyphs, with noise of a standard deviation.
    layers
        The network for these glyphs, of these widths and this number of classes.
    codes
        Weights ``[glyphs, ...]`` with which a unit of the first layer detects each glyph.
    """

    depth: int
    arranged: bool
    glyphs: Callable[[int, torch.Generator], Tensor]
    shown: Callable[[Scenes, Tensor, float, torch.Generator], Tensor]
    layers: Callable[[Tensor, Sequence[int], int], nn.Sequential]
    codes: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SceneSampler:
    """Draws inputs that show scenes.

    Parameters
    ----------
    medium, patterns, glyphs
        What they are made of.
    noise
        Standard deviation of the noise of every number.
    background
        Whether glyphs that belong to no class are shown.
    """

    medium: Medium
    patterns: Patterns
    glyphs: Tensor
    noise: float
    background: bool

    def __call__(self, n_per_class: int, seed: int) -> Samples:
        """``n_per_class`` inputs of every class, classes one after the other."""
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(len(self.patterns.routes)).repeat_interleave(n_per_class)
        scenes = draw_scenes(self.patterns, labels, generator, background=self.background)
        return Samples(self.medium.shown(scenes, self.glyphs, self.noise, generator), labels)


def planted_network(
    medium: Medium,
    cases: Collection[str],
    widths: Sequence[int],
    *,
    n_classes: int,
    seed: int,
    density: Density,
    noise: float,
) -> PlantedNetwork:
    """Draw patterns, plan, order of units and glyphs; write them into a network.

    Takes and raises what ``planted_cnn`` does.
    """
    chosen = checked_cases(cases)
    generator = torch.Generator().manual_seed(seed)
    patterns = draw_patterns(n_classes, chosen, generator, arranged=medium.arranged)
    plan = make_plan(patterns, chosen, depth=medium.depth)
    add_decoys(plan, patterns, chosen, generator)
    order = Order.draw(plan, widths, generator)
    glyphs = medium.glyphs(patterns.n_glyphs + 2, generator)
    noisy = bool(chosen & {"distractors", "cancelling"})
    sampler = SceneSampler(medium, patterns, glyphs, noise, noisy)
    blank = medium.layers(glyphs, widths, n_classes)
    model = written(plan, order, blank, medium.codes(glyphs))
    if density == "dense":
        make_dense(layers_of(model), generator)
    example = sampler(1, 0).inputs[:1]
    sites = find_sites(model, example)
    every_input = torch.ones(example.shape[1], dtype=torch.bool)
    return PlantedNetwork(
        model.eval(),
        sites,
        true_units(plan, order, n_classes),
        true_edges(plan, order, sites, n_classes, every_input),
        sampler,
        tuple(f"class {c}" for c in range(n_classes)),
        chosen,
        seed,
    )
