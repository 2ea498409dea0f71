"""LoRA: frozen networks of which small factors and the head are trained, sent and averaged.

The factors are a parametrization of the weight itself (``W + scale * B A``), so a layer stays one
layer: its units are neurons and heads as without LoRA, where peft's layers are made of parts whose
outputs would be units too. Names are turned into peft's and back, see :func:`peft_names`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm)
_MIDDLE = ".parametrizations."
_FACTORS = ("lora_A", "lora_B")


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685).

    Parameters
    ----------
    rank
        Of the factors ``A [rank, in]``, Kaiming-uniform, and ``B [out, rank]``, zero at the start.
    alpha
        The product is scaled by ``alpha / rank``; None takes the rank, a scale of 1.
    norms
        Train the normalisations as well; without a pretrained network the factors alone learn
        little.
    train_a
        False freezes A (FFA-LoRA, Sun et al. 2024, arXiv 2403.12313): every A is that of the seed
        and leaves the state dict, half as much is sent, and averages of B are averages of ``B A``.

    Raises
    ------
    ValueError
        If the rank is below 1, or alpha not positive.
    """

    rank: int = 4
    alpha: float | None = None
    norms: bool = True
    train_a: bool = True

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank of LoRA must be >= 1, got {self.rank}")
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"alpha of LoRA must be > 0, got {self.alpha}")

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


class LowRank(nn.Module):
    """Adds ``scale * B A`` to a weight ``[out, in]``."""

    def __init__(self, weight: Tensor, settings: LoRA) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        start = weight.new_empty(settings.rank, n_in)
        nn.init.kaiming_uniform_(start, a=math.sqrt(5))
        self.lora_A: Tensor
        if settings.train_a:
            self.lora_A = nn.Parameter(start)
        else:
            self.register_buffer("lora_A", start, persistent=False)
        self.lora_B = nn.Parameter(weight.new_zeros(n_out, settings.rank))
        self.scale = settings.scale

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight ``[out, in]``."""
        return weight + self.scale * (self.lora_B @ self.lora_A)


def with_lora(model: nn.Module, settings: LoRA, *, seed: int) -> nn.Module:
    """The model itself, frozen but for new factors, its head and, if asked for, its norms.

    Adapted are all linear layers but the head, the last of them, and the projections of
    ``nn.MultiheadAttention``: found by type, never by name. What is frozen leaves the state dict,
    so factors, head and norms are all that is trained, exchanged and recorded. Server and clients
    must start from the same network.

    Parameters
    ----------
    model
        Changed in place; its own weights are the frozen ones.
    settings
        Rank and scale.
    seed
        Of the factors' start.

    Raises
    ------
    ValueError
        If the model has no linear layer but its head, or has adapters already.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    targets = list(_targets(model, layers[-1] if layers else None))
    if not targets:
        raise ValueError(
            f"LoRA needs linear layers or attention before the head, {type(model).__name__} has "
            "none"
        )
    if any(isinstance(module, LowRank) for module in model.modules()):
        raise ValueError("the model has adapters of LoRA already; build it anew")
    trained = {id(p) for p in layers[-1].parameters()} if layers else set()
    for module in model.modules():
        if settings.norms and isinstance(module, _NORMS):
            trained |= {id(p) for p in module.parameters()}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in trained:
                delattr(module, name)
                module.register_buffer(name, parameter.detach(), persistent=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module, name in targets:
            adapter = LowRank(getattr(module, name), settings)
            parametrize.register_parametrization(module, name, adapter)
            kept: Any = module.parametrizations[name]  # type: ignore[index]
            original = kept.original
            del kept.original  # a persistent buffer so far
            kept.register_buffer("original", original, persistent=False)
    return model


def _targets(model: nn.Module, head: nn.Linear | None) -> Iterator[tuple[nn.Module, str]]:
    """Modules and names of the weights that are adapted."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not head:
            yield module, "weight"
        elif isinstance(module, nn.MultiheadAttention):
            for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
                if getattr(module, name) is not None:
                    yield module, name


def low_rank_factors(model: nn.Module) -> dict[str, nn.Parameter]:
    """The factors that are trained, by name in the state dict; empty without LoRA."""
    found = {
        id(factor)
        for module in model.modules()
        if isinstance(module, LowRank)
        for factor in module.parameters()
    }
    return {name: value for name, value in model.named_parameters() if id(value) in found}


def adapter_pairs(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """For every adapted weight, as the network without LoRA calls it, the names of A and B.

    Reads our names and peft's (``...fc1.lora_A.weight``, ``...fc1.lora_A.default.weight``); what
    peft puts in front (``base_model.model.``) is left off the weight's name.

    Raises
    ------
    ValueError
        If a factor has no other half.
    """
    found: dict[str, dict[str, str]] = {}
    for name in names:
        read = _read(name)
        if read is not None:
            weight, factor = read
            found.setdefault(weight, {})[factor] = name
    for weight, factors in found.items():
        if set(factors) != set(_FACTORS):
            raise ValueError(f"the adapter of {weight!r} has {sorted(factors)} alone; send both")
    return {weight: (factors["lora_A"], factors["lora_B"]) for weight, factors in found.items()}


def _read(name: str) -> tuple[str, str] | None:
    """The adapted weight and the factor that a name stands for; None for another tensor."""
    if _MIDDLE in name:  # ...fc1.parametrizations.weight.0.lora_A
        layer, _, rest = name.rpartition(_MIDDLE)
        tensor, _, factor = rest.partition(".0.")
        return (f"{layer}.{tensor}", factor) if factor in _FACTORS else None
    parts = name.split(".")
    for factor in _FACTORS:
        if factor in parts:
            layer = ".".join(parts[: parts.index(factor)])
            return f"{layer.removeprefix('base_model.model.')}.weight", factor
    return None


def peft_names(names: Iterable[str]) -> dict[str, str]:
    """What peft's ``get_peft_model_state_dict`` calls each of our tensors.

    Factors of a whole attention (``in_proj_weight``) have no such name and keep ours.
    """
    result = {}
    for name in names:
        read = _read(name)
        if read is None:
            result[name] = f"base_model.model.{name}"
        elif read[0].endswith(".weight"):
            result[name] = f"base_model.model.{read[0].removesuffix('.weight')}.{read[1]}.weight"
        else:
            result[name] = name
    return result


def small_vit(
    input_shape: tuple[int, ...],
    n_classes: int,
    *,
    seed: int,
    checkpoint: Path | str | None = None,
    **config: int,
) -> nn.Module:
    """A vision transformer of ``transformers``, built without network.

    Parameters
    ----------
    input_shape, n_classes
        ``(channels, side, side)``, and the number of logits.
    seed
        Of the initial weights; of the head alone where there is a checkpoint.
    checkpoint
        A local folder that ``save_pretrained`` wrote; nothing is downloaded.
    config
        Fields of ``ViTConfig``, such as ``hidden_size`` and ``patch_size``; left out: 64 wide, 4
        layers of 4 heads, 128 neurons in each MLP, and patches of a quarter of the side.

    Raises
    ------
    ImportError
        If ``transformers`` is not installed, with the extra that brings it.
    ValueError
        If the image is not square, or patches do not cut it evenly.
    """
    channels, height, width = input_shape
    sizes: dict[str, int] = {
        "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 128, "patch_size": max(1, height // 4), **config,
    }  # fmt: skip
    if height != width or height % sizes["patch_size"]:
        raise ValueError(
            f"a vision transformer needs square images that patches of {sizes['patch_size']} cut "
            f"evenly, got {height}x{width}; choose patch_size"
        )
    try:
        transformers: Any = import_module("transformers")
    except ImportError as error:
        raise ImportError("small_vit needs transformers: pip install 'fedcircuit[lora]'") from error
    kind = transformers.ViTForImageClassification
    made: nn.Module
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if checkpoint is not None:
            made = kind.from_pretrained(
                str(checkpoint), local_files_only=True, num_labels=n_classes,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
        else:
            made = kind(
                transformers.ViTConfig(
                    image_size=height, num_channels=channels, num_labels=n_classes, **sizes
                )
            )
    return made
