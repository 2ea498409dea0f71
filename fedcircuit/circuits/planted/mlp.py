"""Planted multilayer perceptrons: glyphs are directions of the input, any number at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits.planted.building import built, drawn
from fedcircuit.circuits.planted.network import Density, PlantedNetwork
from fedcircuit.circuits.planted.plan import Patterns
from fedcircuit.circuits.planted.scenes import draw_scenes
from fedcircuit.samples import Samples

LENGTH = 3.0  # of a glyph, as that of nine pixels of -1 and 1


@dataclass(frozen=True)
class VectorSampler:
    """Draws vectors ``[n, inputs]``, each the sum of the glyphs of a scene.

    Parameters
    ----------
    patterns
        What they are made of.
    glyphs
        ``[glyphs, inputs]``, orthogonal and of length 3.
    noise
        Standard deviation of the noise of every coordinate.
    background
        Whether background glyphs are shown.
    """

    patterns: Patterns
    glyphs: Tensor
    noise: float
    background: bool

    def __call__(self, n_per_class: int, seed: int) -> Samples:
        """``n_per_class`` vectors of every class."""
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(len(self.patterns.routes)).repeat_interleave(n_per_class)
        scenes = draw_scenes(self.patterns, labels, generator, background=self.background)
        strength = torch.where(scenes.glyphs >= 0, scenes.amplitudes, 0.0)  # [n, m]
        shown = torch.zeros(len(labels), len(self.glyphs))
        # a glyph that two patterns share is there once
        shown.scatter_reduce_(1, scenes.glyphs.clamp(min=0), strength, "amax")
        noise = torch.randn(len(labels), self.glyphs.shape[1], generator=generator)
        return Samples(shown @ self.glyphs + self.noise * noise, labels)


def planted_mlp(
    cases: Collection[str] = (),
    *,
    n_classes: int = 10,
    seed: int = 0,
    density: Density = "sparse",
    noise: float = 0.0,
    widths: Sequence[int] = (64, 64),
) -> PlantedNetwork:
    """A multilayer perceptron built by hand, whose class circuits are known.

    Two hidden ReLU layers on inputs ``[n, d]``; glyphs are orthogonal directions, and the head
    reads the composites. ``d`` is the number of glyphs, rounded up to a multiple of 16.

    Parameters
    ----------
    cases, n_classes, seed, density
        As in ``planted_cnn``.
    noise
        Standard deviation of Gaussian noise on every coordinate; a glyph has length 3.
    widths
        Units of the two layers. Units that are not needed are silent.

    Raises
    ------
    ValueError
        If a case is unknown or the network does not fit into the widths.
    """
    plan = drawn(cases, n_classes, seed, widths, orthogonal_glyphs, depth=2, arranged=False)
    sampler = VectorSampler(plan.patterns, plan.glyphs, noise, plan.noisy_background)
    n_inputs = plan.glyphs.shape[1]
    model, example = mlp_layers(n_inputs, widths, n_classes), torch.zeros(1, n_inputs)
    return built(plan, model, plan.glyphs / LENGTH**2, example, sampler, density)


def mlp_layers(n_inputs: int, widths: Sequence[int], n_classes: int) -> nn.Sequential:
    """Linear and ReLU for each of two widths, then a linear layer."""
    first, second = widths
    return nn.Sequential(
        nn.Linear(n_inputs, first),
        nn.ReLU(),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, n_classes),
    )


def orthogonal_glyphs(count: int, generator: torch.Generator) -> Tensor:
    """Orthogonal glyphs of length 3, ``[count, inputs]``; inputs are a multiple of 16."""
    n_inputs = -(-count // 16) * 16
    basis: Tensor = torch.linalg.qr(torch.randn(n_inputs, n_inputs, generator=generator)).Q
    return LENGTH * basis[:count]
