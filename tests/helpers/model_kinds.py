"""Models of every kind, small, with the sites that a person finds in them by reading the code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits.circuit import Site
from fedcircuit.learning.networks.models import build_model


@dataclass(frozen=True)
class Kind:
    """A model, the shape of one input, its sites, and the batch norm behind a layer, if any."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    sites: tuple[Site, ...]
    norms: dict[str, str] = field(default_factory=dict)


class FunctionalCNN(nn.Module):
    """Functional ReLU and pooling; the units end before them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, dilation=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.first(x)), 2)
        x = functional.relu(self.second(functional.pad(x, (2, 2, 2, 2))), inplace=True)
        return self.head(x.amax((2, 3)))


class TinyAttention(nn.Module):
    """Attention written by hand of linear layers, with a class token and tied positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(5, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.places = nn.Embedding(7, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1)
        x = x + self.places(torch.arange(x.shape[1]))
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out((q @ k.transpose(1, 2) / 8**0.5).softmax(-1) @ v)
        return self.head(x[:, 0])


class TwoBranches(nn.Module):
    """A user's own module: Conv1d and linear branches, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.GELU(), nn.MaxPool1d(2))
        self.flat = nn.Sequential(nn.Flatten(), nn.Linear(20, 5), nn.ReLU(inplace=True))
        self.head = nn.Linear(4 * 4 + 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.wide(x).flatten(1), self.flat(x)], 1))


def vit() -> nn.Module:
    """Torchvision's vision transformer; its head, zero at first, is drawn."""
    model = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=3)
    nn.init.normal_(model.heads.head.weight, std=0.3)
    nn.init.normal_(model.class_token)
    return model


def encoder(*, norm_first: bool) -> nn.Module:
    """Two of torch's encoder layers."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, norm_first=norm_first, batch_first=True)
    return nn.Sequential(
        nn.Linear(5, 8),
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        nn.Flatten(),
        nn.Linear(48, 3),
    )


def upsampling() -> nn.Module:
    """Grouped, depthwise and transposed convolutions."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4), nn.ReLU6(inplace=True),
        nn.Conv2d(4, 8, 3, groups=4, dilation=2), nn.GroupNorm(2, 8), nn.SiLU(),
        nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2), nn.LeakyReLU(), nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


def small_resnet() -> nn.Module:
    """Torchvision's residual network, one block in each stage."""
    block = torchvision.models.resnet.BasicBlock
    return torchvision.models.ResNet(block, [1, 1, 1, 1], num_classes=3)


def _stages(n_blocks: int) -> tuple[Site, ...]:
    """Sites of torchvision's ResNet: its ReLU is shared in a block and called twice."""
    sites = [Site("conv1", 64, 1, "maxpool")]
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(n_blocks):
            path = f"layer{stage}.{block}"
            sites += [
                Site(f"{path}.conv1", width, 1, f"{path}.relu#0"),
                Site(f"{path}.conv2", width, 1, f"{path}.bn2"),
            ]
            if stage > 1 and block == 0:
                sites.append(
                    Site(f"{path}.downsample.0", width, 1, f"{path}.downsample.1"),
                )
    return tuple(sites)


def _resnet_norms(sites: tuple[Site, ...]) -> dict[str, str]:
    names = [site.name for site in sites]
    return {n: n.replace("conv", "bn").replace("sample.0", "sample.1") for n in names}


def _vit_layer(index: int) -> tuple[Site, ...]:
    path = f"encoder.layers.encoder_layer_{index}"
    return (
        Site(f"{path}.self_attention", 4, 2, f"{path}.self_attention"),
        Site(f"{path}.mlp.0", 64, -1, f"{path}.mlp.2"),
        Site(f"{path}.mlp.3", 32, -1, f"{path}.mlp.4"),
    )


def _encoder_layer(index: int) -> tuple[Site, ...]:
    path = f"1.layers.{index}"
    return (
        Site(f"{path}.self_attn", 2, 2, f"{path}.self_attn"),
        Site(f"{path}.linear1", 16, -1, f"{path}.linear1"),  # its ReLU is a function
        Site(f"{path}.linear2", 8, -1, f"{path}.dropout2"),
    )


_ENCODER = (Site("0", 8, -1, "0"), *_encoder_layer(0), *_encoder_layer(1))
_OWN_RESNET = (
    Site("0", 6, 1, "2"),
    Site("3.conv1", 6, 1, "3.relu1"), Site("3.conv2", 6, 1, "3.norm2"),
    Site("4.conv1", 8, 1, "4.relu1"), Site("4.conv2", 8, 1, "4.norm2"),
    Site("4.shortcut.0", 8, 1, "4.shortcut.1"),
)  # fmt: skip

KINDS: dict[str, Kind] = {
    "simple-cnn": Kind(
        lambda: build_model("simple-cnn", (1, 8, 8), 3, seed=0, widths=(4, 6)),
        (1, 8, 8),
        (Site("0", 4, 1, "2"), Site("3", 6, 1, "5")),
    ),
    "mlp": Kind(
        lambda: build_model("mlp", (1, 4, 4), 3, seed=0, widths=(8, 6)),
        (1, 4, 4),
        (Site("1", 8, -1, "2"), Site("3", 6, -1, "4")),
    ),
    "resnet": Kind(
        lambda: build_model("resnet", (2, 8, 8), 3, seed=0, widths=(6, 8)),
        (2, 8, 8),
        _OWN_RESNET,
        {"0": "1", "3.conv1": "3.norm1", "3.conv2": "3.norm2", "4.conv1": "4.norm1",
         "4.conv2": "4.norm2", "4.shortcut.0": "4.shortcut.1"},
    ),
    "torchvision-resnet": Kind(
        small_resnet, (3, 32, 32), _stages(1), _resnet_norms(_stages(1))
    ),
    "torchvision-vit": Kind(
        vit, (3, 32, 32), (Site("conv_proj", 32, 1, "conv_proj"), *_vit_layer(0), *_vit_layer(1))
    ),
    "encoder": Kind(lambda: encoder(norm_first=False), (6, 5), _ENCODER),
    "encoder-norm-first": Kind(lambda: encoder(norm_first=True), (6, 5), _ENCODER),
    "functional": Kind(
        FunctionalCNN, (1, 8, 8), (Site("first", 4, 1, "first"), Site("second", 6, 1, "second"))
    ),
    "own-attention": Kind(
        TinyAttention,
        (6, 5),
        (Site("embed", 8, -1, "embed"), Site("qkv", 24, -1, "qkv"), Site("out", 8, -1, "out")),
    ),
    "two-branches": Kind(
        TwoBranches,
        (2, 10),
        (Site("wide.0", 4, 1, "wide.3"), Site("flat.1", 5, -1, "flat.2")),
        {"wide.0": "wide.1"},
    ),
    "upsampling": Kind(
        upsampling,
        (2, 10, 10),
        (Site("0", 4, 1, "2"), Site("3", 8, 1, "3"), Site("6", 6, 1, "9")),
        {"0": "1"},
    ),
}  # fmt: skip


def model_of(name: str, seed: int = 0) -> nn.Module:
    """The model of a kind, drawn from a seed, in eval mode; its batch norms have statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = KINDS[name].build()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval()


def inputs_of(name: str, n: int, seed: int = 0) -> Tensor:
    """Noise ``[n, ...]`` of the shape that a kind takes."""
    return torch.randn(n, *KINDS[name].shape, generator=torch.Generator().manual_seed(seed))
