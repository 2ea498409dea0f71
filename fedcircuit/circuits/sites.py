"""Sites of a model, and the one place where hooks are registered: read, gate or mask units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedcircuit.circuits.circuit import Circuit, Site

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
UNIT_LAYERS = (*CONVOLUTIONS, nn.Linear)
# Modules that act on each unit alone: a site's output is the last of them that follows directly.
UNITWISE = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    nn.Dropout, nn.Dropout2d,
    nn.Identity,
)  # fmt: skip

Transform = Callable[[Tensor], Tensor]
Route = Callable[[Tensor, Tensor], Tensor]  # of a module's input and output


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


def find_sites(model: nn.Module, example: Tensor) -> tuple[Site, ...]:
    """Sites of a model in order of execution, found by module type, never by name.

    A site is a convolution or linear layer together with the unit-wise modules that directly
    follow it. The last such layer executed is the head, whose units are classes, and is no site.

    Parameters
    ----------
    model
        Any module that takes one tensor.
    example
        One or more inputs, ``[n, ...]``; the model runs once on the first.

    Raises
    ------
    ValueError
        If the model has no site, or a layer runs more than once in a forward pass: its units
        would stand for two places at once.
    """
    calls = _trace(model, example[:1])
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.name] = counts.get(call.name, 0) + 1
    layers = [i for i, call in enumerate(calls) if isinstance(call.module, UNIT_LAYERS)]
    if len(layers) < 2:
        raise ValueError(
            f"{type(model).__name__} has no sites: expected at least one convolution or linear "
            f"layer before the head, found {len(layers)} in all"
        )
    for index in layers:
        name = calls[index].name
        if counts[name] > 1:
            raise ValueError(
                f"layer {name!r} of {type(model).__name__} runs {counts[name]} times in one "
                "forward pass; its units have no single place. Use one layer for each place"
            )
    return tuple(_site(calls, counts, index) for index in layers[:-1])


@dataclass(frozen=True)
class _Call:
    """One call of a leaf module; versions tell whether a tensor was changed in between."""

    name: str
    module: nn.Module
    incoming: Tensor
    incoming_version: int
    output: Tensor
    output_version: int


def _trace(model: nn.Module, example: Tensor) -> list[_Call]:
    """Every call of a leaf module in one forward pass, in order."""
    calls: list[_Call] = []
    versions: dict[str, int] = {}
    with ExitStack() as stack, evaluating(model), torch.no_grad():
        for name, module in model.named_modules():
            if next(module.children(), None) is not None:
                continue

            def before(module: nn.Module, args: tuple[object, ...], name: str = name) -> None:
                if args and isinstance(args[0], Tensor):
                    versions[name] = args[0]._version

            def after(
                module: nn.Module, args: tuple[object, ...], output: object, name: str = name
            ) -> None:
                if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                    calls.append(
                        _Call(name, module, args[0], versions[name], output, output._version)
                    )

            stack.enter_context(_removed(module.register_forward_pre_hook(before)))
            stack.enter_context(_removed(module.register_forward_hook(after)))
        model(example)
    return calls


def call_order(model: nn.Module, example: Tensor) -> tuple[str, ...]:
    """Names of the leaf modules in the order in which one forward pass calls them."""
    return tuple(call.name for call in _trace(model, example[:1]))


def _site(calls: list[_Call], counts: Mapping[str, int], index: int) -> Site:
    current = calls[index]
    layer = current.module
    if isinstance(layer, CONVOLUTIONS):
        n_units, axis = layer.out_channels, 1
    else:
        assert isinstance(layer, nn.Linear)
        n_units, axis = layer.out_features, -1
    for call in calls[index + 1 :]:
        # the same tensor, untouched: an in-place residual addition bumps its version
        follows = (
            call.incoming is current.output and call.incoming_version == current.output_version
        )
        if not follows or not isinstance(call.module, UNITWISE) or counts[call.name] > 1:
            break
        if call.output.shape[axis] != n_units:
            break
        current = call
    return Site(calls[index].name, n_units, axis, current.name)


@contextmanager
def _removed(handle: RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def transformed(model: nn.Module, transforms: Mapping[str, Transform]) -> Iterator[nn.Module]:
    """The model with the output of each named module replaced by a function of it."""
    with ExitStack() as stack:
        for name, transform in transforms.items():

            def hook(
                module: nn.Module, args: object, output: Tensor, transform: Transform = transform
            ) -> Tensor:
                return transform(output)

            module = model.get_submodule(name)
            stack.enter_context(_removed(module.register_forward_hook(hook)))
        yield model


@contextmanager
def rerouted(model: nn.Module, routes: Mapping[str, Route]) -> Iterator[nn.Module]:
    """The model with the output of each named module replaced by a function of input and output."""
    with ExitStack() as stack:
        for name, route in routes.items():

            def hook(
                module: nn.Module, args: tuple[Tensor, ...], output: Tensor, route: Route = route
            ) -> Tensor:
                return route(args[0], output)

            module = model.get_submodule(name)
            stack.enter_context(_removed(module.register_forward_hook(hook)))
        yield model


@contextmanager
def capture(model: nn.Module, sites: Sequence[Site]) -> Iterator[dict[str, Tensor]]:
    """Activations of every site, by site name, filled at each forward pass."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Transform:
        def transform(output: Tensor) -> Tensor:
            seen[name] = output
            return output

        return transform

    with transformed(model, {site.output: keep(site.name) for site in sites}):
        yield seen


def gate(activation: Tensor, gates: Tensor, axis: int, reference: Tensor | None = None) -> Tensor:
    """``reference + (activation - reference) * gates``, gates shaped along the unit axis.

    Parameters
    ----------
    activation
        ``[n, units, ...]`` (axis 1) or ``[n, ..., units]`` (axis -1).
    gates
        ``[units]``, or ``[n, units]`` with a row of its own for every sample.
    axis
        The unit axis, 1 or -1.
    reference
        Broadcastable to one sample's activation ``[1, ...]``; None is zero ablation.
    """
    rows = gates if gates.ndim == 2 else gates.unsqueeze(0)
    shape = [rows.shape[0]] + [1] * (activation.ndim - 1)
    shape[axis] = rows.shape[1]
    shaped = rows.reshape(shape).to(activation.dtype)
    if reference is None:
        return activation * shaped
    return torch.lerp(reference.expand_as(activation), activation, shaped.expand_as(activation))


@contextmanager
def gated(
    model: nn.Module,
    sites: Sequence[Site],
    gates: Mapping[str, Tensor],
    reference: Mapping[str, Tensor] | None = None,
) -> Iterator[nn.Module]:
    """The model with the units of each site scaled between reference and activation.

    Parameters
    ----------
    model, sites
        The model and the sites to gate.
    gates
        By site name, ``[units]`` or ``[n, units]``; may require gradients.
    reference
        By site name, the activation of an ablated unit, ``[1, ...]``; None is zero ablation.
    """

    def scale(site: Site) -> Transform:
        mean = None if reference is None else reference[site.name]
        return lambda output: gate(output, gates[site.name], site.axis, mean)

    with transformed(model, {site.output: scale(site) for site in sites}):
        yield model


@contextmanager
def masked(
    model: nn.Module,
    sites: Sequence[Site],
    circuit: Circuit,
    reference: Mapping[str, Tensor] | None = None,
) -> Iterator[nn.Module]:
    """The model reduced to a circuit: every unit outside it is ablated."""
    with gated(model, sites, circuit.masks, reference):
        yield model
