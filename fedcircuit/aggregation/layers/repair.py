"""REPAIR: give the units of an average the mean and spread that they have in what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedcircuit.aggregation import Floats, loaded, result
from fedcircuit.aggregation.layers.chain import LAYERS, leaves
from fedcircuit.learning import Weights, get_weights

_ROWS = 16  # samples in one forward pass


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
    steps = [module for _, module in leaves(rule, own)]
    last = max(i for i, module in enumerate(steps) if isinstance(module, LAYERS))
    places = [i for i in range(last) if _is_bare(steps, i)]
    wanted = _wanted(rule, (model, weights, shares), inputs, places)
    flow = inputs.double()
    for place, module in enumerate(steps):
        came = flow
        flow = _through(module, came)
        if isinstance(module, _BatchNorm):
            _reset(module, came)
            flow = _through(module, came)
        elif place in wanted:
            _rescale(module, _Units.pooled([_moments(flow, module)], [1]), wanted[place])
            flow = _through(module, came)
    changed = get_weights(own)
    return result(merged, {n: v for n, v in changed.items() if v.dtype.kind == "f"})


@dataclass(frozen=True)
class _Units:
    """Mean and standard deviation of every unit of a layer, ``[units]`` each."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def pooled(cls, found: Sequence[tuple[Tensor, Tensor]], n: Sequence[int]) -> _Units:
        """From variances and means of disjoint parts of so many samples."""
        share = torch.tensor(n, dtype=torch.float64) / sum(n)
        variances, means = (torch.stack(one) for one in zip(*found, strict=True))
        mean = share @ means
        return cls(mean, (share @ (variances + (means - mean) ** 2)).sqrt())


def _is_bare(steps: Sequence[nn.Module], place: int) -> bool:
    """Whether a layer stands there without batch norm right behind it."""
    follows = steps[place + 1] if place + 1 < len(steps) else None
    return isinstance(steps[place], LAYERS) and not isinstance(follows, _BatchNorm)


def _wanted(
    rule: str, clients: tuple[nn.Module, Sequence[Weights], Floats], inputs: Tensor,
    places: Sequence[int],
) -> dict[int, _Units]:  # fmt: skip
    """By place of a layer, the share-weighted means of what its units are in the clients."""
    model, weights, shares = clients
    if not places:
        return {}
    found: dict[int, list[_Units]] = {place: [] for place in places}
    for one in weights:
        steps = [module for _, module in leaves(rule, loaded(rule, model, one))]
        for place, units in _statistics(steps[: places[-1] + 1], inputs, places).items():
            found[place].append(units)
    share = torch.from_numpy(shares)
    return {
        place: _Units(
            share @ torch.stack([one.mean for one in units]),
            share @ torch.stack([one.spread for one in units]),
        )
        for place, units in found.items()
    }


def _statistics(
    steps: Sequence[nn.Module], inputs: Tensor, places: Sequence[int]
) -> dict[int, _Units]:
    """Statistics of layers, a few samples through all of them at a time: they stay in caches."""
    found: dict[int, list[tuple[Tensor, Tensor]]] = {place: [] for place in places}
    parts = torch.split(inputs, _ROWS)
    for part in parts:
        flow = part.double()
        for place, module in enumerate(steps):
            flow = module(flow)
            if place in found:
                found[place].append(_moments(flow, module))
    return {
        place: _Units.pooled(own, [len(part) for part in parts]) for place, own in found.items()
    }


def _through(module: nn.Module, came: Tensor) -> Tensor:
    """What a module makes of many samples; convolutions in float64 are slow on many at once."""
    if not isinstance(module, LAYERS) or isinstance(module, nn.Linear):
        made: Tensor = module(came)
        return made
    return torch.cat([module(part) for part in torch.split(came, _ROWS)])


def _moments(values: Tensor, module: nn.Module) -> tuple[Tensor, Tensor]:
    """Variance and mean of every unit of a layer that gave ``[n, ...]``, ``[units]`` each."""
    units = (-1 if isinstance(module, nn.Linear) else 1) % values.ndim
    rest = [axis for axis in range(values.ndim) if axis != units]
    return torch.var_mean(values, rest, correction=0)


def _rescale(module: nn.Module, own: _Units, wanted: _Units) -> None:
    """Scale and shift a layer's units from what they are to what is wanted."""
    varies = own.spread > 1e-12
    scale = torch.where(varies, wanted.spread / own.spread.clamp(min=1e-12), 1.0)
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    weight.mul_(scale.reshape(-1, *[1] * (weight.ndim - 1)))
    if isinstance(bias, Tensor):
        bias.copy_(torch.where(varies, (bias - own.mean) * scale + wanted.mean, bias))


def _reset(norm: _BatchNorm, came: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None:
        return
    units = came.movedim(1, 0).flatten(1)
    norm.running_mean.copy_(units.mean(1))
    if units.shape[1] > 1:
        norm.running_var.copy_(units.var(1))
