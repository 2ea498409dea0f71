"""Planted convolutional networks: glyphs of 3x3 pixels on images of 28x28."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from fedcircuit.circuits.planted.building import Medium, planted_network
from fedcircuit.circuits.planted.network import Density, PlantedNetwork
from fedcircuit.circuits.planted.scenes import Scenes

SIDE = 28
SLOT_CENTRES = (2, 6, 10)  # rows and columns of the first feature map, 14x14


def shown_in_images(
    scenes: Scenes, glyphs: Tensor, noise: float, generator: torch.Generator
) -> Tensor:
    """Images ``[n, 1, 28, 28]`` of scenes; each pattern in any of nine places."""
    n, m = scenes.glyphs.shape
    centres = torch.tensor(SLOT_CENTRES)
    cells = torch.stack([centres[scenes.slots // 3], centres[scenes.slots % 3]], 2)
    shift = torch.randint(2, (n, 9, 2), generator=generator)  # every pattern as a whole
    jitter = shift.gather(1, scenes.slots.unsqueeze(2).expand(n, m, 2))
    pixels = 2 * (cells + scenes.taps - 1) + jitter  # [n, m, 2], centre of each glyph
    spread = torch.arange(-1, 2)
    rows = (pixels[..., 0, None, None] + spread[:, None]).expand(n, m, 3, 3)
    columns = (pixels[..., 1, None, None] + spread[None, :]).expand(n, m, 3, 3)
    strength = torch.where(scenes.glyphs >= 0, scenes.amplitudes, 0.0)
    values = glyphs[scenes.glyphs.clamp(min=0)] * strength[..., None, None]
    images = noise * torch.randn(n, 1, SIDE, SIDE, generator=generator)
    at = torch.arange(n)[:, None, None, None].expand(n, m, 3, 3)
    images[:, 0].index_put_((at, rows, columns), values, accumulate=True)
    return images


def planted_cnn(
    cases: Collection[str] = (),
    *,
    n_classes: int = 10,
    seed: int = 0,
    density: Density = "sparse",
    noise: float = 0.0,
    widths: Sequence[int] = (32, 64, 128),
) -> PlantedNetwork:
    """A convolutional network built by hand, whose class circuits are known.

    Three times convolution 3x3, ReLU and maximum pooling, then one linear layer, on images
    ``[n, 1, 28, 28]``. See ``PlantedNetwork`` for what the circuits are.

    Parameters
    ----------
    cases
        Hard cases, any of ``CASES``, described in ``fedcircuit.circuits.planted.network``;
        ``HARD`` is all of them.
    n_classes
        3 or more.
    seed
        Glyphs, patterns and the order of units follow from it.
    density
        ``"sparse"``, or ``"dense"``: every zero weight becomes a small random number.
    noise
        Standard deviation of Gaussian noise on every pixel; a glyph's pixels are -1 and 1.
    widths
        Channels of the three layers. Channels that are not needed are silent.

    Raises
    ------
    ValueError
        If a case is unknown or the network does not fit into the widths.
    """
    return planted_network(
        IMAGES, cases, widths, n_classes=n_classes, seed=seed, density=density, noise=noise
    )


def cnn_layers(glyphs: Tensor, widths: Sequence[int], n_classes: int) -> nn.Sequential:
    """Convolution 3x3, ReLU and maximum pooling for each of three widths, then a linear layer."""
    model = nn.Sequential()
    channels = 1
    for width in widths:
        model.extend([nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)])
        channels = width
    model.extend([nn.Flatten(), nn.Linear(channels * 9, n_classes)])
    return model


def draw_glyphs(count: int, generator: torch.Generator) -> Tensor:
    """Different glyphs ``[count, 3, 3]`` of pixels -1 and 1.

    Two of them agree, wherever one lies over the other, in at most 5 of 9 pixels more than they
    differ, and in fewer where they overlap in part.

    Raises
    ------
    ValueError
        If there are not so many.
    """
    bits = (torch.arange(512).unsqueeze(1) >> torch.arange(9)) & 1
    candidates = (2.0 * bits - 1.0).view(512, 3, 3)[torch.randperm(512, generator=generator)]
    padded = nn.functional.pad(candidates.unsqueeze(1), (2, 2, 2, 2))
    likeness = nn.functional.conv2d(padded, candidates.unsqueeze(1)).flatten(2)  # [512, 512, 25]
    partial = torch.arange(25) != 12
    allowed = (likeness[:, :, partial].amax(2) <= 4) & (likeness[:, :, partial].amax(2).T <= 4)
    chosen: list[int] = []
    for limit in (3, 5):  # as different as can be, then less so
        near = allowed & (likeness[:, :, 12] <= limit)
        for index in range(512):
            if len(chosen) == count:
                return candidates[chosen]
            fits = bool(allowed[index, index]) and index not in chosen
            if fits and bool(near[index, chosen].all()):
                chosen.append(index)
    if len(chosen) < count:
        raise ValueError(f"found {len(chosen)} glyphs, needed {count}; use fewer classes")
    return candidates[chosen]


def image_codes(glyphs: Tensor) -> Tensor:
    """Kernels ``[glyphs, 1, 3, 3]`` that give 1 where their glyph lies."""
    return glyphs.unsqueeze(1) / 9


IMAGES = Medium(
    depth=3,
    arranged=True,
    glyphs=draw_glyphs,
    shown=shown_in_images,
    layers=cnn_layers,
    codes=image_codes,
)
