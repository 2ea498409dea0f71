"""The head of a model, its last linear layer, and the features that go into it.

Hooks of circuits are registered in ``circuits/sites/hooks.py``. Training must not know circuits,
and the features of a model of any shape can be read nowhere but at the input of its head: so the
hooks on that one layer, always under ``with``, stand here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from fedcircuit.logits import inputs_for


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers by name, in the order in which the model lists them."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


def head_layer(model: nn.Module, n_classes: int, example: Tensor | None = None) -> str | None:
    """Name of the last linear layer with ``n_classes`` outputs; None where there is none.

    Last in the order in which one forward pass calls them; without an example in the order in
    which the model lists them. The pass leaves no trace: modes of modules, buffers and random
    numbers are given back.

    Parameters
    ----------
    model, n_classes
        Which layer is looked for where.
    example
        Inputs ``[n, ...]``; the first is used.
    """
    layers = {k: m for k, m in linear_layers(model).items() if m.out_features == n_classes}
    if example is None or len(layers) < 2:
        return next(reversed(layers), None)
    called: list[str] = []
    modes = [(module, module.training) for module in model.modules()]
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with ExitStack() as stack, torch.random.fork_rng(devices=[]), torch.no_grad():
        for name, layer in layers.items():

            def note(module: nn.Module, args: object, name: str = name) -> None:
                called.append(name)

            stack.callback(layer.register_forward_pre_hook(note).remove)
        model.eval()
        try:
            model(inputs_for(model, example[:1]))
        finally:
            for module, training in modes:
                module.training = training
            for buffer, before in kept:
                buffer.copy_(before)
    return called[-1] if called else None


@contextmanager
def head_inputs(model: nn.Module, head: str) -> Iterator[list[Tensor]]:
    """The input of a layer at its last call, detached: a list of one tensor, or of none yet.

    Parameters
    ----------
    model, head
        A model, and the name of one of its layers.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[:] = [args[0].detach()]

    handle = model.get_submodule(head).register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
