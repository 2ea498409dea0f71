"""REPAIR: give the units of an average the mean and spread that they have in what it is made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedcircuit.aggregation import Floats, loaded, result
from fedcircuit.aggregation.layers.chain import LAYERS, leaves
from fedcircuit.learning import Weights, get_weights

_ROWS = 32  # samples in one forward pass of a convolution


@torch.no_grad()
def repaired(
    rule: str,
    model: nn.Module,
    merged: Weights,
    clients: tuple[Sequence[Weights], Floats],
    inputs: Tensor,
) -> Weights:
    """The merged weights with every hidden unit's mean and spread set right (arXiv 2211.08403).

    Front to back: behind a layer with batch norm its running statistics become those of the
    inputs; any other layer's rows and biases are scaled and shifted so that each unit's mean and
    standard deviation before the nonlinearity are the share-weighted means of the clients'. The
    last layer, and units that never vary, stay as they are.

    Parameters
    ----------
    rule
        Named where the model is not sequential.
    model
        The sequential network; it is copied.
    merged
        Averaged weights.
    clients
        Their weights, units in the same order, and their shares ``[clients]``.
    inputs
        ``[n, ...]`` of the probe.

    Raises
    ------
    RuleError
        If the model is not sequential, or the weights are not its.
    """
    weights, shares = clients
    own = loaded(rule, model, merged)
    nets = [own, *(loaded(rule, model, one) for one in weights)]
    flows = [inputs.double() for _ in nets]
    steps = [[module for _, module in leaves(rule, net)] for net in nets]
    last = max(i for i, module in enumerate(steps[0]) if isinstance(module, LAYERS))
    for place, (module, *others) in enumerate(zip(*steps, strict=True)):
        came = flows[0]
        flows = [_through(one, flow) for one, flow in zip((module, *others), flows, strict=True)]
        follows = steps[0][place + 1] if place + 1 < len(steps[0]) else None
        if isinstance(module, _BatchNorm):
            _reset(module, came)
            flows[0] = _through(module, came)
        elif isinstance(module, LAYERS) and place < last and not isinstance(follows, _BatchNorm):
            _rescale(module, flows, torch.from_numpy(shares))
            flows[0] = _through(module, came)
    changed = get_weights(own)
    return result(merged, {n: v for n, v in changed.items() if v.dtype.kind == "f"})


def _through(module: nn.Module, came: Tensor) -> Tensor:
    """What a module makes of many samples; convolutions in float64 are slow on many at once."""
    if not isinstance(module, LAYERS) or isinstance(module, nn.Linear):
        made: Tensor = module(came)
        return made
    return torch.cat([module(part) for part in torch.split(came, _ROWS)])


def _spread_and_mean(values: Tensor, module: nn.Module) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of every unit, ``[units]`` each."""
    units = (-1 if isinstance(module, nn.Linear) else 1) % values.ndim
    rest = [axis for axis in range(values.ndim) if axis != units]
    return torch.std_mean(values, rest, correction=0)


def _rescale(module: nn.Module, flows: Sequence[Tensor], shares: Tensor) -> None:
    spreads, means = zip(*(_spread_and_mean(flow, module) for flow in flows), strict=True)
    mean, spread = (sum(p * v for p, v in zip(shares, all_[1:], strict=True))
                    for all_ in (means, spreads))  # fmt: skip
    varies = spreads[0] > 1e-12
    scale = torch.where(varies, spread / spreads[0].clamp(min=1e-12), 1.0)
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    weight.mul_(scale.reshape(-1, *[1] * (weight.ndim - 1)))
    if isinstance(bias, Tensor):
        bias.copy_(torch.where(varies, (bias - means[0]) * scale + mean, bias))


def _reset(norm: _BatchNorm, came: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None:
        return
    units = came.movedim(1, 0).flatten(1)
    norm.running_mean.copy_(units.mean(1))
    if units.shape[1] > 1:
        norm.running_var.copy_(units.var(1))
