"""The one place where hooks are registered: watch, read, gate or mask the units of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedcircuit.circuits import Circuit, Site
from fedcircuit.circuits.models import Call, evaluating, is_traced, ordinary
from fedcircuit.circuits.sites.attention import OpenedHeads
from fedcircuit.circuits.sites.gating import gate, of_its_own
from fedcircuit.logits import inputs_for, logits_of

Transform = Callable[[Tensor], Tensor]
Route = Callable[[Tensor, Tensor], Tensor]  # of a module's input and output


def trace(model: nn.Module, example: Tensor, *, every: bool = False) -> tuple[list[Call], object]:
    """Every call of a module without parts in one forward pass, in order, and the output.

    With ``every`` also of those with parts, in the order in which they end, as copies.

    Raises
    ------
    ValueError
        If the model does not take the example; the module that raised is named.
    """
    calls: list[Call] = []
    entered: list[tuple[str, Tensor | None]] = []
    versions: list[int] = []
    with ExitStack() as stack, evaluating(model), torch.no_grad():
        for name, module in model.named_modules():
            if not (every or is_traced(module)):
                continue

            def before(module: nn.Module, args: tuple[object, ...], name: str = name) -> None:
                given = args[0] if args and isinstance(args[0], Tensor) else None
                entered.append((name, given.clone() if every and given is not None else given))
                versions.append(0 if given is None or given.is_inference() else given._version)

            def after(
                module: nn.Module, args: tuple[object, ...], output: object, name: str = name
            ) -> None:
                left, incoming = entered.pop()
                version = versions.pop()
                while left != name:  # a forward that raised, and was caught
                    (left, incoming), version = entered.pop(), versions.pop()
                if isinstance(module, nn.MultiheadAttention) and isinstance(output, tuple):
                    output = output[0]
                if incoming is not None and isinstance(output, Tensor):
                    output = output.clone() if every else output
                    calls.append(Call(name, module, incoming, version, output, output._version))

            stack.enter_context(_removed(module.register_forward_pre_hook(before)))
            stack.enter_context(_removed(module.register_forward_hook(after)))
        try:
            output = model(example)
        except Exception as error:
            raise ValueError(
                _failed(model, example, [name for name, _ in entered], error)
            ) from error
    return calls, output


def _failed(model: nn.Module, example: Tensor, entered: Sequence[str], error: Exception) -> str:
    where = f" in module {entered[-1]!r}" if entered and entered[-1] else ""
    said = " ".join(str(error).split())[:300] or type(error).__name__
    return (
        f"{type(model).__name__} does not take inputs of shape {tuple(example.shape)} in eval "
        f"mode: {said}{where}. It must take batches of any size, one sample alone included, and "
        "its normalisations no statistics of the batch"
    )


def call_order(model: nn.Module, example: Tensor) -> tuple[str, ...]:
    """Names of the modules without parts in the order in which one forward pass calls them."""
    example = inputs_for(model, ordinary(example[:1]))
    return tuple(call.name for call in trace(model, example)[0])


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
    with transformed(model, _keepers(sites, seen)):
        yield seen


@contextmanager
def capture_leaves(model: nn.Module, sites: Sequence[Site]) -> Iterator[dict[str, Tensor]]:
    """As `capture`; and every activation that has no graph becomes a leaf that one starts at."""
    seen: dict[str, Tensor] = {}
    with torch.enable_grad(), transformed(model, _keepers(sites, seen, leaves=True)):
        yield seen


def _keepers(
    sites: Sequence[Site], seen: dict[str, Tensor], *, leaves: bool = False
) -> dict[str, Transform]:
    """By output of each site, what puts its activation under the site's name."""

    def keep(name: str, output: Tensor) -> Tensor:
        plain = leaves and not output.requires_grad
        seen[name] = output.detach().requires_grad_() if plain else output
        return seen[name]

    return {site.output: partial(keep, site.name) for site in sites}


def site_graph(
    model: nn.Module, sites: Sequence[Site], inputs: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and site activations in a graph that starts at the first site, not before."""
    with capture_leaves(model, sites) as seen:
        logits = logits_of(model, inputs)
    require_gradient(logits)
    return logits, seen


def require_gradient(logits: Tensor) -> None:
    """Refuse logits that are cut off from the activations they are made of.

    Raises
    ------
    ValueError
        With what may cut them off.
    """
    if not logits.requires_grad:
        raise ValueError(
            "the logits have no gradient: the model's forward cuts them off from its layers, by "
            ".detach(), torch.no_grad() or a detour over NumPy. Take that out of forward"
        )


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
