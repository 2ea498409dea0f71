"""Networks that studies train; every nonlinearity and pooling is a module of its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

MODEL_NAMES = ("simple-cnn", "mlp", "resnet")
DEFAULT_WIDTHS = {"simple-cnn": (32, 64, 128), "mlp": (128, 64), "resnet": (16, 32, 64)}


class SimpleCNN(nn.Sequential):
    """conv3x3, ReLU, maxpool 2 for each width, then one linear layer (arXiv 2512.23043).

    With widths 32, 64, 128 on 1x28x28 it has 104,202 parameters.
    """

    def __init__(self, input_shape: tuple[int, ...], n_classes: int, widths: Sequence[int]) -> None:
        channels, height, width = _image(input_shape, "simple-cnn")
        if min(height, width) < 2 ** len(widths):
            raise ValueError(
                f"{len(widths)} poolings need images of at least {2 ** len(widths)} pixels a "
                f"side, got {height}x{width}; use fewer widths"
            )
        layers: list[nn.Module] = []
        for out in widths:
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = out
        scale = 2 ** len(widths)
        features = channels * (height // scale) * (width // scale)
        super().__init__(*layers, nn.Flatten(), nn.Linear(features, n_classes))


class MLP(nn.Sequential):
    """Linear and ReLU for each width, then one linear layer."""

    def __init__(self, input_shape: tuple[int, ...], n_classes: int, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        features = prod(input_shape)
        for width in widths:
            layers += [nn.Linear(features, width), nn.ReLU()]
            features = width
        super().__init__(*layers, nn.Linear(features, n_classes))


class ResidualBlock(nn.Module):
    """Two conv3x3 with batch norm and a shortcut (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, channels: int, out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``[n, channels, h, w]`` to ``[n, out, h / stride, w / stride]``."""
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        result: Tensor = self.relu2(inner + self.shortcut(x))
        return result


class ResNet(nn.Sequential):
    """A stem, one residual block for each width (halving the image), and a linear layer."""

    def __init__(self, input_shape: tuple[int, ...], n_classes: int, widths: Sequence[int]) -> None:
        channels, _, _ = _image(input_shape, "resnet")
        layers: list[nn.Module] = [
            nn.Conv2d(channels, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        channels = widths[0]
        for index, out in enumerate(widths):
            layers.append(ResidualBlock(channels, out, stride=1 if index == 0 else 2))
            channels = out
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes)
        )


def _image(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"{name} needs images [channels, height, width], got shape {shape}")
    return shape[0], shape[1], shape[2]


def build_model(
    name: str,
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    seed: int,
    widths: tuple[int, ...] | None = None,
) -> nn.Module:
    """A network with torch's default initialisation, drawn from ``seed`` alone.

    Raises
    ------
    ValueError
        If the name is unknown, a width is not positive, or the images do not fit the network.
    """
    builders: dict[str, type[SimpleCNN] | type[MLP] | type[ResNet]] = {
        "simple-cnn": SimpleCNN,
        "mlp": MLP,
        "resnet": ResNet,
    }
    if name not in builders:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODEL_NAMES)}")
    sizes = DEFAULT_WIDTHS[name] if widths is None else widths
    if not sizes or min(sizes) < 1:
        raise ValueError(f"widths of {name} must be one or more positive numbers, got {sizes}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return builders[name](input_shape, n_classes, sizes)
