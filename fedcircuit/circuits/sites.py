"""Sites of a model, and the one place where hooks are registered: read, gate or mask units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedcircuit.circuits.attention import OpenedHeads, attentions, require_same_heads
from fedcircuit.circuits.calls import (
    CONVOLUTIONS,
    UNIT_LAYERS,
    Call,
    incoming_weights,
    is_traced,
    require_batch_first,
    require_traceable,
    sites_of_calls,
)
from fedcircuit.circuits.circuit import Circuit, Site
from fedcircuit.circuits.gating import gate, of_its_own
from fedcircuit.circuits.naming import named_sites

__all__ = [
    "CONVOLUTIONS", "UNIT_LAYERS", "Route", "Transform",
    "call_order", "capture", "evaluating", "find_sites", "gate", "gated", "incoming_weights",
    "masked", "rerouted", "transformed",
]  # fmt: skip

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

    Each comes with its kind, and with what people call it (`fedcircuit.circuits.naming`).

    A site is a convolution (also grouped or transposed) or linear layer together with the modules
    that directly follow it and act on each unit alone; or a ``nn.MultiheadAttention``, whose units
    are its heads. The last layer executed is the head if its units are the logits, and is no site.

    What ``forward`` does with functions (``F.relu``, ``F.max_pool2d``) ends a site before it, and
    so do normalisations that mix units (layer norm, group norm). A unit gated before a ReLU has no
    gradient where its gate is exactly 0; elsewhere nothing changes. Two layers that share one
    parameter are two sites: gates act on activations, so they do not touch each other.

    Parameters
    ----------
    model
        Any module that takes one tensor ``[n, ...]`` and gives one.
    example
        One or more inputs, ``[n, ...]``; the model runs a few times on the first, alone and beside
        another.

    Raises
    ------
    ValueError
        If the model has no site; a layer runs more than once in a forward pass (its units would
        stand for two places at once); the first axis of a site is not the batch, samples are mixed
        or run one by one; the model takes or gives something else than one tensor; it is compiled,
        scripted or lazy; or an attention does not compute what ``nn.MultiheadAttention`` does.
    """
    name = type(model).__name__
    device = next((p.device for p in model.parameters()), example.device)
    one = example[:1].to(device)
    require_traceable(model, one)
    calls, output = _trace(model, one)
    if not isinstance(output, Tensor):
        raise ValueError(
            f"{name} must give one tensor, its logits [n, classes], got {type(output).__name__}; "
            "wrap it in a module that returns the logits alone"
        )
    n_logits = output.shape[1] if output.ndim == 2 else None
    sites = sites_of_calls(calls, n_logits, name)
    other = example[1:2].to(device) if len(example) > 1 else one.flip(-1)
    require_batch_first(sites, calls, _trace(model, torch.cat([one, other]))[0])
    heads = attentions(calls, sites)
    if heads:
        with transformed(model, dict.fromkeys(heads, torch.clone)):
            require_same_heads(heads, calls, _trace(model, one)[0])
    tensors = model.state_dict().items()  # beside tensors there may be "extra state"
    return named_sites(sites, {n: v.ndim for n, v in tensors if isinstance(v, Tensor)})


def _trace(model: nn.Module, example: Tensor) -> tuple[list[Call], object]:
    """Every call of a module without parts in one forward pass, in order, and the output."""
    calls: list[Call] = []
    versions: dict[str, int] = {}
    with ExitStack() as stack, evaluating(model), torch.no_grad():
        for name, module in model.named_modules():
            if not is_traced(module):
                continue

            def before(module: nn.Module, args: tuple[object, ...], name: str = name) -> None:
                if args and isinstance(args[0], Tensor):
                    versions[name] = args[0]._version

            def after(
                module: nn.Module, args: tuple[object, ...], output: object, name: str = name
            ) -> None:
                if isinstance(module, nn.MultiheadAttention) and isinstance(output, tuple):
                    output = output[0]
                if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                    calls.append(
                        Call(name, module, args[0], versions[name], output, output._version)
                    )

            stack.enter_context(_removed(module.register_forward_pre_hook(before)))
            stack.enter_context(_removed(module.register_forward_hook(after)))
        output = model(example)
    return calls, output


def call_order(model: nn.Module, example: Tensor) -> tuple[str, ...]:
    """Names of the modules without parts in the order in which one forward pass calls them."""
    return tuple(call.name for call in _trace(model, example[:1])[0])


@contextmanager
def _removed(handle: RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def transformed(model: nn.Module, transforms: Mapping[str, Transform]) -> Iterator[nn.Module]:
    """The model with the output of each named module replaced by a function of it.

    ``name#k`` is call k, from 0, of a module that a forward pass calls more than once. Of a
    ``nn.MultiheadAttention`` the function takes and gives the outputs of its heads,
    ``[n, tokens, heads, channels]``, before they are projected. A function may keep what it was
    given: the model goes on with a copy, so that in-place operations behind it do not change it.
    """
    with ExitStack() as stack:
        for place, transform in transforms.items():
            name, _, number = place.partition("#")
            module = model.get_submodule(name)
            if isinstance(module, nn.MultiheadAttention):
                stack.enter_context(_heads_transformed(model, module, transform))
            elif number:
                stack.enter_context(_call_transformed(model, module, int(number), transform))
            else:
                stack.enter_context(_removed(_transform_hook(module, transform)))
        yield model


def _transform_hook(module: nn.Module, transform: Transform) -> RemovableHandle:
    def hook(module: nn.Module, args: object, output: Tensor) -> Tensor:
        return of_its_own(transform(output), output)

    return module.register_forward_hook(hook)


@contextmanager
def _call_transformed(
    model: nn.Module, module: nn.Module, number: int, transform: Transform
) -> Iterator[None]:
    """Only one call in every forward pass of the model is transformed."""
    seen = 0

    def start(model: nn.Module, args: object) -> None:
        nonlocal seen
        seen = 0

    def hook(module: nn.Module, args: object, output: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        return of_its_own(transform(output), output) if seen == number + 1 else output

    with (
        _removed(model.register_forward_pre_hook(start)),
        _removed(module.register_forward_hook(hook)),
    ):
        yield


@contextmanager
def _heads_transformed(
    model: nn.Module, attention: nn.MultiheadAttention, transform: Transform
) -> Iterator[None]:
    heads = OpenedHeads(attention, transform)
    try:
        with (
            _removed(model.register_forward_pre_hook(heads.start)),
            # of contexts within each other, the last entered is the first to start and last to end
            _removed(attention.register_forward_pre_hook(heads.before, prepend=True)),
            _removed(attention.register_forward_hook(heads.after)),
        ):
            yield
    finally:
        heads.close()


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
