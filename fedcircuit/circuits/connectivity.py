"""Which units can carry anything: non-zero weights followed from the input to the head.

Structural and exact: a copy of the model keeps only *where* its weights are non-zero. Weights
become positive row averages, biases zero, normalisations and nonlinearities the identity, max
pooling average pooling; then one all-ones sample runs through it. Every value in that copy is a
sum of non-negative terms, so an activation is positive exactly if a path of non-zero weights leads
to it, and nothing cancels or overflows.

Covered: every module whose forward adds, concatenates, averages or selects what its layers make
(chains, residual networks, branches), whatever its activations are, as long as they are modules or
map positive numbers to positive numbers (ReLU, tanh, GELU, SiLU). Other modules with parameters
are taken with the absolute values of their parameters. Not covered: functional sigmoid or softmax
inside ``forward`` (0 becomes positive, or gradients cancel) and explicit subtraction of
activations; models are expected to return logits. Group and layer normalisation are followed unit
by unit, although their statistics mix units.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site, split_by_site
from fedcircuit.circuits.sites import UNIT_LAYERS, evaluating, gated

_IDENTITIES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardsigmoid,
    nn.Hardtanh, nn.Softmax, nn.LogSoftmax,
)  # fmt: skip
_MAX_POOLS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (nn.MaxPool1d, nn.AvgPool1d),
    (nn.MaxPool2d, nn.AvgPool2d),
    (nn.MaxPool3d, nn.AvgPool3d),
)
_ADAPTIVE_MAX_POOLS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d),
    (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
    (nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d),
)
_CHANNEL_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)


def live_units(model: nn.Module, sites: Sequence[Site], example: Tensor) -> Tensor:
    """Units reached from the input and read by a logit through non-zero weights, ``[units]`` bool.

    These are the units a circuit can be made of: the pool of the chance level of an overlap.

    Parameters
    ----------
    model, sites
        The model, left as it is, and its sites.
    example
        One or more inputs ``[n, ...]``; only the shape of the first is used.
    """
    skeleton, ones = _skeleton(model, example)
    n_units = sum(site.n_units for site in sites)
    gates = torch.ones(1, n_units, dtype=ones.dtype, device=ones.device, requires_grad=True)
    with evaluating(skeleton), torch.enable_grad():
        with gated(skeleton, sites, split_by_site(gates, sites)):
            total = skeleton(ones).sum()
        # activation x sensitivity: positive only where a unit is both reached and read
        (gradient,) = torch.autograd.grad(total, gates)
    return (gradient[0] > 0).cpu()


def has_path(model: nn.Module, sites: Sequence[Site], masks: Tensor, example: Tensor) -> Tensor:
    """Whether a path input -> ... -> logit leads through kept units only, ``[rows]`` bool.

    Without one the masked network is a constant function, whatever the ablated units are set to.

    Parameters
    ----------
    model, sites
        The model, left as it is, and its sites.
    masks
        ``[rows, units]`` bool, one circuit a row; all run in one batch.
    example
        One or more inputs ``[n, ...]``; only the shape of the first is used.
    """
    if not len(masks):
        return torch.zeros(0, dtype=torch.bool)
    skeleton, ones = _skeleton(model, example)
    gates = split_by_site(masks.to(ones.device), sites)
    with evaluating(skeleton), torch.no_grad(), gated(skeleton, sites, gates):
        logits = skeleton(ones.expand(len(masks), *ones.shape[1:]))
    paths: Tensor = (logits.flatten(1) > 0).any(dim=1).cpu()
    return paths


def _skeleton(model: nn.Module, example: Tensor) -> tuple[nn.Module, Tensor]:
    """The non-negative copy of a model, and the one sample to run through it."""
    # float64: a single path through many sparse layers must not underflow
    skeleton = copy.deepcopy(model).double()
    with torch.no_grad():
        _make_structural(skeleton)
    sample = example[:1].to(_device(model))
    return skeleton, torch.ones_like(sample).double() if sample.is_floating_point() else sample


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _make_structural(module: nn.Module) -> None:
    # not named_children(): it passes over a module that is registered under two names
    for name, child in list(module._modules.items()):
        if child is None:
            continue
        replacement = _replacement(child)
        if replacement is None:
            _make_structural(child)
        else:
            setattr(module, name, replacement)
    if isinstance(module, UNIT_LAYERS) and isinstance(module._parameters.get("weight"), Tensor):
        weight = module.weight
        open_weights = (weight != 0).to(weight.dtype)
        fan_in = open_weights.flatten(1).sum(1).clamp(min=1)
        weight.copy_(open_weights / fan_in.reshape(-1, *[1] * (weight.ndim - 1)))
        if module.bias is not None:
            module.bias.zero_()
        return
    for name, parameter in module.named_parameters(recurse=False):
        # an offset is no path: zero it; anything else counts by its absolute value
        parameter.copy_(torch.zeros_like(parameter) if "bias" in name else parameter.abs())


def _replacement(module: nn.Module) -> nn.Module | None:
    if isinstance(module, _IDENTITIES):
        return nn.Identity()
    if isinstance(module, _CHANNEL_NORMS):
        return _Scale(module.weight, channels=True)
    if isinstance(module, nn.LayerNorm):
        return _Scale(module.weight, channels=False)
    for kind, average in _MAX_POOLS:
        if isinstance(module, kind):
            if getattr(module, "return_indices", False) or not _is_plain(module):
                return None
            return average(
                module.kernel_size, module.stride, module.padding, ceil_mode=module.ceil_mode
            )
    for kind, average in _ADAPTIVE_MAX_POOLS:
        if isinstance(module, kind) and not module.return_indices:
            return average(module.output_size)
    return None


def _is_plain(pool: nn.Module) -> bool:
    """No dilation: average pooling has none."""
    dilation = pool.dilation
    return bool(dilation == 1 or (isinstance(dilation, tuple) and set(dilation) == {1}))


class _Scale(nn.Module):
    """A normalisation reduced to which of its scales are not zero."""

    def __init__(self, weight: Tensor | None, *, channels: bool) -> None:
        super().__init__()
        self.channels = channels
        self.open = None if weight is None else (weight.detach() != 0)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs, zero where the scale is zero."""
        if self.open is None:
            return inputs
        shape = [1, -1] + [1] * (inputs.ndim - 2) if self.channels else list(self.open.shape)
        return inputs * self.open.reshape(shape).to(inputs.dtype)
