"""Layers that follow one another, and what becomes of them when units change places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _MaxPoolNd,
)

from fedcircuit.aggregation import RuleError, Updates
from fedcircuit.learning import Weights

Permutation = NDArray[np.intp]
Tensors = dict[str, NDArray[np.generic]]

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_UNIT_BY_UNIT = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
    nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Softplus, nn.Identity, nn.Flatten,
    _DropoutNd, _AvgPoolNd, _MaxPoolNd, _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd,
)  # fmt: skip


@dataclass(frozen=True)
class Link:
    """One layer of a chain, by name, and the batch norm that follows it, empty where none does."""

    layer: str
    norm: str = ""

    def vectors(self) -> Iterator[str]:
        """Names of what has one entry a unit, beside the weight."""
        yield f"{self.layer}.bias"
        if self.norm:
            yield from (
                f"{self.norm}.{own}" for own in ("weight", "bias", "running_mean", "running_var")
            )

    def learned(self) -> Iterator[str]:
        """Names of the tensors that units are told apart by."""
        yield f"{self.layer}.weight"
        yield from (name for name in self.vectors() if "running_" not in name)


def leaves(rule: str, model: nn.Module | None) -> list[tuple[str, nn.Module]]:
    """Modules of a sequential model in the order in which they run.

    Raises
    ------
    RuleError
        If the model is not given, is not sequential, or holds what mixes units in another way.
    """
    if model is None:
        raise RuleError(rule, "needs the model, to know which layer follows which")
    known = "linear and plain convolutional layers, batch norm, activations, pooling, nn.Flatten"
    if not isinstance(model, nn.Sequential):
        raise RuleError(rule, f"needs an nn.Sequential of {known}, got a {type(model).__name__}")
    found: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential):
            continue
        grouped = getattr(module, "groups", 1) != 1
        if grouped or not isinstance(module, (*LAYERS, _BatchNorm, *_UNIT_BY_UNIT)):
            what = f"grouped {type(module).__name__}" if grouped else type(module).__name__
            raise RuleError(rule, f"needs an nn.Sequential of {known}; {name!r} is a {what}")
        found.append((name, module))
    return found


def chain(rule: str, model: nn.Module | None, updates: Updates) -> tuple[Link, ...]:
    """The layers of a sequential model, the head last.

    Raises
    ------
    RuleError
        If the model is not sequential, its weights are exchanged under other names, or batch norm
        does not stand right behind a layer.
    """
    links: list[Link] = []
    fresh = False
    for name, module in leaves(rule, model):
        if isinstance(module, LAYERS):
            links.append(Link(name))
            fresh = True
        elif isinstance(module, _BatchNorm):
            if not fresh or links[-1].norm:
                raise RuleError(
                    rule, f"needs every batch norm right behind a layer; {name!r} is not"
                )
            links[-1] = Link(links[-1].layer, name)
        elif not isinstance(module, (nn.Identity, _DropoutNd)):
            fresh = False
    missing = [link.layer for link in links if f"{link.layer}.weight" not in updates.before]
    if missing:
        raise RuleError(rule, f"needs weights under the model's names; {missing[0]}.weight is not "
                        f"among {list(updates.before)}")  # fmt: skip
    return tuple(links)


def permuted(weights: Weights, links: Sequence[Link], places: Sequence[Permutation]) -> Tensors:
    """The same function with units in other places.

    Parameters
    ----------
    weights
        Named tensors, those of the chain among them.
    links
        The chain, head last.
    places
        For each layer but the last ``[units]``: which unit comes to this place.
    """
    changed = dict(weights)
    for link, after, order in zip(links, links[1:], places, strict=False):
        for name in (f"{link.layer}.weight", *link.vectors()):
            if name in changed:
                changed[name] = changed[name][order]
        name = f"{after.layer}.weight"
        changed[name] = inputs_of(changed[name], len(order))[:, order].reshape(changed[name].shape)
    return changed


def inputs_of(weight: NDArray[np.generic], units: int) -> NDArray[np.generic]:
    """A weight as ``[outputs, units of the layer before, entries]``; flattened maps have many."""
    return weight.reshape(len(weight), units, -1)
