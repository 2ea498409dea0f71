"""Models whose parts cannot be watched are refused, with what to give instead."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.nn.parameter import is_lazy

from fedcircuit.circuits.models.module_calls import Call

_SHAPES = ("Squeeze", "View", "Reshape", "UnsafeView", "Unsqueeze", "Select", "Slice", "Alias")
_WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule")


def require_readable(model: nn.Module) -> None:
    """Refuse models whose parts cannot be watched.

    Raises
    ------
    ValueError
        If the model is no module, or compiled, scripted, wrapped for several devices or spread
        over them, or has parameters without a shape or without values.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    name = type(model).__name__
    if any(kind.__name__ in _WRAPPERS for kind in type(model).__mro__):
        raise ValueError(f"model is a {name}: give the network inside it, model.module")
    for path, module in model.named_modules():
        where = f"{path!r} of {name}" if path else name
        if isinstance(module, ScriptModule):
            raise ValueError(
                f"{where} is a TorchScript module, whose parts cannot be read or gated; "
                "give the module it was scripted or traced from"
            )
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise ValueError(
                f"{where} is compiled, so its parts may be fused away; give the module before "
                "torch.compile (model._orig_mod), and compile it afterwards"
            )
        if any(is_lazy(p) for p in module._parameters.values()):
            raise ValueError(
                f"{where} has parameters without a shape (lazy); run the model once on an input "
                "before looking for sites"
            )
    devices = {str(tensor.device) for tensor in (*model.parameters(), *model.buffers())}
    if "meta" in devices:
        raise ValueError(
            f"{name} is on the device 'meta' and has no values; build it on a real device"
        )
    if len(devices) > 1:
        raise ValueError(
            f"{name} is spread over the devices {sorted(devices)}; move it to one, "
            "such as model.cpu()"
        )


def require_one_input(model: nn.Module, example: Tensor) -> None:
    """Refuse models that take more than one tensor.

    Raises
    ------
    ValueError
        If the forward cannot be called with one.
    """
    try:
        inspect.signature(model.forward).bind(example)
    except TypeError as error:
        raise ValueError(
            f"{type(model).__name__} must take one tensor [n, ...], but its forward cannot be "
            f"called with one ({error}); wrap it in a module that takes one tensor"
        ) from error


def require_no_sigmoid(model: nn.Module, example: Tensor, calls: Sequence[Call]) -> None:
    """Refuse a single output that is a probability already: it would be taken for a logit.

    Parameters
    ----------
    model, example
        A model in any mode with one output, and one input.
    calls
        Its calls in one forward pass.

    Raises
    ------
    ValueError
        If the last thing that the model does is a sigmoid.
    """
    last = calls[-1].module if calls else None
    made = None
    with torch.enable_grad():
        inputs = example.detach()
        if inputs.is_floating_point():
            inputs = inputs.requires_grad_() + 0  # no leaf: it may be changed in place
        output = model(inputs)
        made = output.grad_fn if isinstance(output, Tensor) else None
    while made is not None and type(made).__name__.startswith(_SHAPES):
        made = made.next_functions[0][0]
    if isinstance(last, nn.Sigmoid) or type(made).__name__.startswith("SigmoidBackward"):
        raise ValueError(
            f"{type(model).__name__} ends in a sigmoid: its one output is a probability, and a "
            "logit is expected, positive for class 1. Leave the sigmoid out (and train with "
            "BCEWithLogitsLoss), or give two logits and train with cross-entropy"
        )
