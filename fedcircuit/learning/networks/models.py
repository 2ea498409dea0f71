"""Networks that studies train; every nonlinearity and pooling is a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fedcircuit.learning.networks.frozen_heads import Head, with_frozen_head

Initialisation = Literal["torch", "he"]
Activation = Literal["relu", "tanh"]
MODEL_NAMES = ("simple-cnn", "mlp", "resnet", "vgg11")
DEFAULT_WIDTHS = {
    "simple-cnn": (32, 64, 128),
    "mlp": (128, 64),
    "resnet": (16, 32, 64),
    "vgg11": (64, 128, 256, 256, 512, 512, 512, 512),
}
_VGG11_POOLED = (0, 1, 3, 5, 7)  # places of the convolutions that a max pooling follows


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
    """Linear and ReLU (or tanh) for each width, then one linear layer.

    On 12 inputs with tanh, widths 10, 7, 5, 4, 3 and 2 classes it is the network of Shwartz-Ziv and
    Tishby (2017, arXiv 1703.00810).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_classes: int,
        widths: Sequence[int],
        activation: Activation = "relu",
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        features = prod(input_shape)
        for width in widths:
            layers += [nn.Linear(features, width), nn.Tanh() if activation == "tanh" else nn.ReLU()]
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
    """A stem, one residual block for each width (halving the image), and a linear layer.

    The stem is a conv3x3 of stride 1, as for CIFAR in He et al. 2016 (arXiv 1512.03385). With three
    widths, such as the default, it is ResNet8: weight layers 1 + 3 * 2 + 1, as usual without the
    1x1 convolutions of shortcuts; two widths are ResNet6, four ResNet10. The networks of these
    names in the code of arXiv 2506.00932 have the same blocks in widths 64, 128, 256, 512 behind a
    7x7 stem of stride 2 and a max pooling.
    """

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


class VGG11(nn.Sequential):
    """Configuration A with batch norm (Simonyan and Zisserman 2015, arXiv 1409.1556).

    Eight times conv3x3, batch norm and ReLU in the given widths, with maxpool 2 behind convolutions
    1, 2, 4, 6 and 8, then global average pooling and one linear layer in place of the three of the
    paper, as usual for CIFAR. The convolutions have no bias: batch norm would take it away. On
    3x32x32 with 10 classes it has 9,228,362 parameters.

    A pooling that would leave a side of one pixel is left out, unless it is the last: on one pixel
    only the centre of a 3x3 kernel would have any effect, and batch norm could not train on a
    mini-batch of one. 32x32 images meet all five, 28x28 and 16x16 all but the fourth.
    """

    def __init__(self, input_shape: tuple[int, ...], n_classes: int, widths: Sequence[int]) -> None:
        channels, height, width = _image(input_shape, "vgg11")
        if len(widths) != len(DEFAULT_WIDTHS["vgg11"]):
            raise ValueError(
                f"vgg11 has eight convolutions, each with a width, got {len(widths)} widths: "
                f"{tuple(widths)}"
            )
        side = min(height, width)
        if side < 2:
            raise ValueError(
                f"vgg11 needs images of at least 2 pixels a side, got {height}x{width}; use mlp"
            )
        layers: list[nn.Module] = []
        for place, out in enumerate(widths):
            layers += [
                nn.Conv2d(channels, out, 3, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
            last = place == len(widths) - 1
            if place in _VGG11_POOLED and (side >= 4 or last):
                layers.append(nn.MaxPool2d(2))
                side //= 2
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
    init: Initialisation = "torch",
    activation: Activation = "relu",
    head: Head = "linear",
) -> nn.Module:
    """A network with its initial weights drawn from ``seed`` alone.

    Parameters
    ----------
    name, widths
        One of ``MODEL_NAMES``, and the units of its layers; None takes ``DEFAULT_WIDTHS``.
    input_shape, n_classes
        Shape of one input, and the number of logits.
    seed
        Of the weights.
    init
        ``torch``: torch's defaults. ``he``: weights of conv and linear layers normal with variance
        2 / fan-in (He et al. 2015, arXiv 1502.01852), their biases zero.
    activation
        Nonlinearity behind the hidden layers of ``mlp``; the others have ``relu``.
    head
        ``linear`` is trained; ``simplex`` and ``orthogonal`` are not, see
        :func:`~.frozen_heads.with_frozen_head`.

    Raises
    ------
    ValueError
        If a name is unknown, a width is not positive, or widths, images, the activation or the
        head do not fit the network.
    """
    builders: dict[str, Callable[[tuple[int, ...], int, Sequence[int]], nn.Sequential]] = {
        "simple-cnn": SimpleCNN,
        "mlp": partial(MLP, activation=activation),
        "resnet": ResNet,
        "vgg11": VGG11,
    }
    if name not in builders:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODEL_NAMES)}")
    sizes = DEFAULT_WIDTHS[name] if widths is None else widths
    if not sizes or min(sizes) < 1:
        raise ValueError(f"widths of {name} must be one or more positive numbers, got {sizes}")
    if init not in get_args(Initialisation):
        raise ValueError(f"init must be one of {get_args(Initialisation)}, got {init!r}")
    if activation not in (get_args(Activation) if name == "mlp" else ("relu",)):
        raise ValueError(
            f"activation of mlp must be one of {get_args(Activation)}, of other models 'relu'; "
            f"got {activation!r} for {name!r}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = builders[name](input_shape, n_classes, sizes)
        if init == "he":
            _he_init(model)
    return model if head == "linear" else with_frozen_head(model, head, seed=seed)


def _he_init(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
