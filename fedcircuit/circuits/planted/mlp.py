"""Planted multilayer perceptrons: glyphs are directions of the input, any number at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from fedcircuit.circuits.planted.building import Medium, planted_network
from fedcircuit.circuits.planted.network import Density, PlantedNetwork
from fedcircuit.circuits.planted.scenes import Scenes

LENGTH = 3.0  # of a glyph, as that of nine pixels of -1 and 1


def shown_in_vectors(
    scenes: Scenes, glyphs: Tensor, noise: float, generator: torch.Generator
) -> Tensor:
    """Vectors ``[n, inputs]``, each the sum of the glyphs of a scene."""
    strength = torch.where(scenes.glyphs >= 0, scenes.amplitudes, 0.0)  # [n, m]
    weights = torch.zeros(len(strength), len(glyphs))
    # a glyph that two patterns share is there once
    weights.scatter_reduce_(1, scenes.glyphs.clamp(min=0), strength, "amax")
    return weights @ glyphs + noise * torch.randn(
        len(strength), glyphs.shape[1], generator=generator
    )


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
    return planted_network(
        VECTORS, cases, widths, n_classes=n_classes, seed=seed, density=density, noise=noise
    )


def mlp_layers(glyphs: Tensor, widths: Sequence[int], n_classes: int) -> nn.Sequential:
    """Linear and ReLU for each of two widths, then a linear layer."""
    first, second = widths
    return nn.Sequential(
        nn.Linear(glyphs.shape[1], first),
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


def vector_codes(glyphs: Tensor) -> Tensor:
    """Weights ``[glyphs, inputs]`` that give 1 for their glyph."""
    return glyphs / LENGTH**2


VECTORS = Medium(
    depth=2,
    arranged=False,
    glyphs=orthogonal_glyphs,
    shown=shown_in_vectors,
    layers=mlp_layers,
    codes=vector_codes,
)
