"""The head of a model, its last linear layer, and the features that go into it.

Hooks of circuits are registered in ``circuits/sites/hooks.py``. Training must not know circuits,
and the features of a model of any shape can be read nowhere but at the input of its head: so the
hooks on linear layers, always under ``with``, stand here, in :func:`last_call` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.logits import inputs_for


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers by name, in the order in which the model lists them."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


@dataclass
class LayerCall:
    """The latest call of one of the layers that are watched.

    Parameters
    ----------
    name
        Of the layer; None before the first call.
    taken, given
        Its input and its output; None before the first call.
    """

    name: str | None = None
    taken: Tensor | None = None
    given: Tensor | None = None

    def features(self, layer: str) -> Tensor:
        """What the layer has taken.

        Raises
        ------
        ValueError
            If it was not called as a module.
        """
        if self.taken is None:
            raise ValueError(
                f"the last linear layer {layer!r} was not called in a forward pass, so there are "
                "no features; call it as a module"
            )
        return self.taken


@contextmanager
def last_call(layers: Mapping[str, nn.Module], *, graph: bool = True) -> Iterator[LayerCall]:
    """Watch layers, by name, for their latest call; nothing is changed.

    The hooks are removed at the end, whatever is raised. Without ``graph`` what is seen is detached
    and keeps no graph alive.
    """
    seen = LayerCall()
    handles = []
    for name, layer in layers.items():

        def note(
            module: nn.Module,
            args: tuple[Tensor, ...],
            named: dict[str, Tensor],
            output: Tensor,
            name: str = name,
        ) -> None:
            taken = args[0] if args else named["input"]
            seen.name = name
            seen.taken, seen.given = (taken, output) if graph else (taken.detach(), output.detach())

        handles.append(layer.register_forward_hook(note, with_kwargs=True))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


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
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluating(model):
        try:
            with last_call(layers) as seen:
                model(inputs_for(model, example[:1]))
        finally:
            for buffer, before in kept:
                buffer.copy_(before)
    return seen.name


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; every module gets back the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def head_inputs(model: nn.Module, head: str) -> Iterator[LayerCall]:
    """The latest call of one layer of a model, detached.

    Parameters
    ----------
    model, head
        A model, and the name of one of its layers.
    """
    with last_call({head: model.get_submodule(head)}, graph=False) as seen:
        yield seen
