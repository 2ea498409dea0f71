"""In which mode a model runs, and models as the search for circuits can take them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_LOW = (torch.float16, torch.bfloat16)
_SLOTS = ("__dict__", "__weakref__")


def ordinary(values: Tensor) -> Tensor:
    """The tensor, copied if it was made under ``torch.inference_mode``; without a graph."""
    if not values.is_inference():
        return values.detach() if values.requires_grad else values
    with torch.inference_mode(mode=False):
        return values.clone()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode; every module's own mode is given back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def searching() -> Iterator[None]:
    """Gradients as they are without ``torch.no_grad`` or ``torch.inference_mode`` around it.

    Methods need them, whoever calls; where they do not they switch them off themselves.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


@contextmanager
def trying(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode without gradients, for a pass that must leave no trace.

    Buffers (the statistics of a norm that a ``forward`` puts into training mode) and the random
    numbers of the process are given back.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[]), evaluating(model), torch.no_grad():
        try:
            yield model
        finally:
            for buffer, before in buffers:
                if not buffer.is_inference():
                    buffer.copy_(before)


def copied(model: nn.Module) -> nn.Module:
    """A copy of a model, also where torch does not make one.

    Tensors made under ``torch.inference_mode``, and results of computations that a module holds
    (the weight of ``nn.utils.weight_norm``), are copied as plain tensors. Parametrized modules get
    a class of their own: torch lets copies share it, and takes the parametrized tensor from all of
    them when the parametrization of one is removed.
    """
    memo: dict[int, object] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers, vars(module)):
            for value in held.values():
                if isinstance(value, Tensor) and (value.is_inference() or not value.is_leaf):
                    memo[id(value)] = _plain(value)
    made = copy.deepcopy(model, memo)
    for module in made.modules():
        if parametrize.is_parametrized(module):
            kind = type(module)
            held_there = {k: v for k, v in vars(kind).items() if k not in _SLOTS}
            module.__class__ = type(kind.__name__, kind.__bases__, held_there)
    return made


def workable(model: nn.Module) -> nn.Module:
    """The model, or a copy in which circuits can be looked for.

    Weights made under ``torch.inference_mode`` allow no gradients behind them, and numbers of
    sixteen bits are too coarse to rank units by: a copy then holds the same weights as plain
    tensors, in float32.
    """
    tensors = (*model.parameters(), *model.buffers())
    if not any(tensor.is_inference() or tensor.dtype in _LOW for tensor in tensors):
        return model
    with torch.inference_mode(mode=False):
        made = copied(model)
        made._apply(lambda x: x.float() if x.dtype in _LOW else x)  # type: ignore[no-untyped-call]
        return made


def _plain(value: Tensor) -> Tensor:
    found = ordinary(value)
    if isinstance(value, nn.Parameter):
        return nn.Parameter(found, requires_grad=value.requires_grad)
    return found
