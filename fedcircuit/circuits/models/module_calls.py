"""Which calls of modules in a forward pass make units, and where those units are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.models.site_names import ATTENTION, CONVOLUTION, LINEAR

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
UNIT_LAYERS = (*CONVOLUTIONS, nn.Linear)
# Everything that makes units: a transposed convolution keeps its weights the other way round, and
# the units of an attention are its heads.
UNIT_MAKERS = (*UNIT_LAYERS, *TRANSPOSED, nn.MultiheadAttention)
# Modules that act on each number alone.
POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardsigmoid,
    nn.Hardtanh, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity,
)  # fmt: skip
# Modules that act on each channel ``[n, channels, ...]`` alone.
CHANNELWISE = (
    nn.modules.batchnorm._NormBase,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    nn.Upsample,
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One call of a module that has no parts; versions tell whether a tensor was changed since."""

    name: str
    module: nn.Module
    incoming: Tensor
    incoming_version: int
    output: Tensor
    output_version: int


def is_traced(module: nn.Module) -> bool:
    """Whether calls of the module count: it makes units, or has no parts of its own."""
    return isinstance(module, UNIT_MAKERS) or next(module.children(), None) is None


def sites_of_calls(calls: Sequence[Call], n_logits: int | None, model: str) -> tuple[Site, ...]:
    """Sites of the calls of one forward pass; the last layer is the head if it makes the logits.

    Parameters
    ----------
    calls
        In order.
    n_logits
        Size of the model's output ``[n, logits]``; None if it has another shape.
    model
        Name of the model for messages.

    Raises
    ------
    ValueError
        If there is no site, or a layer runs more than once.
    """
    counts = Counter(call.name for call in calls)
    layers = [i for i, call in enumerate(calls) if isinstance(call.module, UNIT_MAKERS)]
    sites = [_site(calls, counts, index) for index in layers]
    if sites and _is_head(calls[layers[-1]].module, sites[-1], n_logits):
        sites.pop()
    if not sites:
        raise ValueError(
            f"{model} has no sites: expected at least one convolution, linear or attention layer "
            f"before the head, called as a module, found {len(layers)} in all"
        )
    for index in layers:
        name = calls[index].name
        if counts[name] > 1:
            raise ValueError(
                f"layer {name!r} of {model} runs {counts[name]} times in one forward pass; its "
                "units have no single place. Use one layer for each place"
            )
    return tuple(sites)


def _is_head(layer: nn.Module, site: Site, n_logits: int | None) -> bool:
    return not isinstance(layer, nn.MultiheadAttention) and n_logits in (None, site.n_units)


def _units(layer: nn.Module) -> tuple[int, int, str]:
    """Number of units, their axis, and what kind of layer makes them."""
    if isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED)):
        return layer.out_channels, 1, CONVOLUTION
    if isinstance(layer, nn.MultiheadAttention):
        return layer.num_heads, 2, ATTENTION
    assert isinstance(layer, nn.Linear)
    return layer.out_features, -1, LINEAR


def _site(calls: Sequence[Call], counts: Counter[str], index: int) -> Site:
    current, place = calls[index], index
    n_units, axis, kind = _units(current.module)
    name = current.name
    if isinstance(current.module, nn.MultiheadAttention):
        return Site(name, n_units, axis, name, kind)
    for later, call in enumerate(calls[index + 1 :], start=index + 1):
        # the same tensor, untouched: an in-place residual addition bumps its version
        follows = (
            call.incoming is current.output and call.incoming_version == current.output_version
        )
        if not follows or not _keeps_units(call.module, axis, call.output.ndim):
            break
        if call.output.shape[axis] != n_units:
            break
        current, place = call, later
    if counts[current.name] > 1 and place > index:
        number = sum(call.name == current.name for call in calls[:place])
        return Site(name, n_units, axis, f"{current.name}#{number}", kind)
    return Site(name, n_units, axis, current.name, kind)


def _keeps_units(module: nn.Module, axis: int, ndim: int) -> bool:
    """Whether a unit's output depends on this unit's input alone."""
    if isinstance(module, POINTWISE):
        return True
    if isinstance(module, nn.GroupNorm):
        return axis == 1 and module.num_groups == module.num_channels
    if axis == 1:
        return isinstance(module, CHANNELWISE)
    # ``[n, units]``; of ``[n, tokens, units]`` these modules would take the tokens for channels
    return ndim == 2 and isinstance(module, nn.modules.batchnorm._BatchNorm)


def differ(a: Tensor, b: Tensor, eps: float = 0.0) -> bool:
    """Whether two tensors of one shape differ by more than rounding.

    ``eps`` is that of the numbers they were computed with, where these were coarser than they are.
    """
    if not a.is_floating_point():
        return not torch.equal(a, b)
    tolerance = max(torch.finfo(a.dtype).eps, eps) ** 0.5
    known = a[a.isfinite()]
    scale = float(known.abs().max()) if known.numel() else 0.0
    return not torch.allclose(a, b, rtol=0.0, atol=tolerance * (1 + scale), equal_nan=True)
