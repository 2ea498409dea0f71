"""Which units can carry anything: non-zero weights followed from the input to the head.

Structural and exact: a copy of the model keeps only *where* its weights are non-zero. Biases
become zero, normalisations and nonlinearities the identity, max pooling average pooling, be they
modules or functions in a ``forward`` (`fedcircuit.circuits.paths.structure`); then one all-ones
sample runs through it. All is a sum of non-negative terms, so an activation is positive exactly if
a path of non-zero weights leads to it from the input, its derivative exactly if one leads from it
to a logit, and nothing cancels.

What does not depend on the input (a class token, position embeddings) is no path. A copy that gives
anything without an input is therefore judged by its derivatives in the size of the input, its
weights being row averages. Where a forward multiplies what it has computed (attention, gates),
biases and ablated units are then 1: a constant lets through what it multiplies.

Covered: chains, residual networks, branches, transformers, whatever their activations. Other
parameters are taken with their absolute values. An upper bound rather than exact: attention masks
are not followed (every token may read all); a head counts as reached also where the input changes
its attention weights alone; position embeddings looked up by ``nn.Embedding`` count as input in a
model of tokens. Group and layer normalisation are followed unit by unit, although their statistics
mix units. A forward whose derivatives still turn out negative or infinite is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fedcircuit.circuits import Site, split_by_site
from fedcircuit.circuits.models import TRANSPOSED, UNIT_LAYERS, copied, evaluating
from fedcircuit.circuits.paths.structure import Structure
from fedcircuit.circuits.sites import capture, capture_leaves, gated
from fedcircuit.logits import as_logits

_LOGITS = ""  # a name that no site has


def live_units(model: nn.Module, sites: Sequence[Site], example: Tensor) -> Tensor:
    """Units reached from the input and read by a logit through non-zero weights, ``[units]`` bool.

    These are the units a circuit can be made of: the pool of the chance level of an overlap.

    Parameters
    ----------
    model, sites
        The model, left as it is, and its sites.
    example
        One or more inputs ``[n, ...]``; only the shape of the first is used.

    Raises
    ------
    ValueError
        If the forward does something whose structure is not known.
    """
    skeleton = _skeleton(model, example)
    values, read = _read(skeleton, sites)
    reached = _derivatives_by_site(skeleton, sites) if skeleton.constants else values
    live = []
    for site in sites:
        # at one position a unit must be both
        both = (reached[site.name] * read[site.name]).movedim(site.axis, 0).flatten(1)
        live.append((both > 0).any(1))
    return torch.cat(live).cpu()


def has_path(
    model: nn.Module,
    sites: Sequence[Site],
    masks: Tensor,
    example: Tensor,
    *,
    rows: int | None = None,
) -> Tensor:
    """Whether a path input -> ... -> logit leads through kept units only, ``[rows]`` bool.

    Without one the masked network is a constant function, whatever the ablated units are set to
    (but for what units tell each other by the statistics of a layer or group normalisation).

    Parameters
    ----------
    model, sites
        The model, left as it is, and its sites.
    masks
        ``[rows, units]`` bool, one circuit a row.
    example
        One or more inputs ``[n, ...]``; only the shape of the first is used.
    rows
        Most circuits in one batch; None runs all in one.

    Raises
    ------
    ValueError
        If the forward does something whose structure is not known.
    """
    if not len(masks):
        return torch.zeros(0, dtype=torch.bool)
    skeleton = _skeleton(model, example)
    paths = []
    for few in torch.split(masks.to(skeleton.sample.device), rows or len(masks)):
        gates = split_by_site(few, sites)
        with gated(skeleton.model, sites, gates, skeleton.ablated(sites)):
            logits = _reached_logits(skeleton, len(few))
        paths.append((logits.flatten(1) > 0).any(dim=1).cpu())
    return torch.cat(paths)


@dataclass(frozen=True)
class _Skeleton:
    """The non-negative copy of a model, and the one sample to run through it.

    ``constants`` says whether something in it is not zero although the input is, ``multiplies``
    whether computed numbers are multiplied, so that constants matter, ``binary`` whether all
    numbers may be made 0 or 1.
    """

    model: nn.Module
    sample: Tensor
    constants: bool = False
    multiplies: bool = False
    binary: bool = False

    @property
    def one(self) -> Tensor:
        """The number 1 in the type of the copy."""
        kind = torch.float32 if self.binary else torch.float64
        return torch.ones((), dtype=kind, device=self.sample.device)

    def run(self, rows: int, source: Tensor) -> Tensor:
        """Logits, with the input times the source (0 or 1)."""
        return self.watched_run(rows, source)[0]

    def watched_run(self, rows: int, source: Tensor) -> tuple[Tensor, Structure]:
        """Logits, with the input times the source (0 or 1), and what was met on the way."""
        tokens = not self.sample.is_floating_point()
        sample = self.sample if tokens else torch.ones_like(self.sample) * source
        structure = Structure(
            self.model,
            tokens=source if tokens else None,
            offsets=self.multiplies,
            binary=self.binary,
        )
        with evaluating(self.model), structure:
            try:
                output = self.model(sample.expand(rows, *sample.shape[1:]))
            except NotImplementedError as error:
                raise ValueError(_unknown(self.model, f" ({error})")) from error
        return as_logits(output, rows, type(self.model).__name__), structure

    def ablated(self, sites: Sequence[Site]) -> dict[str, Tensor] | None:
        """What ablated units are: a constant that lets through what it multiplies, else 0."""
        return dict.fromkeys((s.name for s in sites), self.one) if self.multiplies else None


def _skeleton(model: nn.Module, example: Tensor) -> _Skeleton:
    sample = example[:1].to(_device(model))
    # float32, the fast one: with numbers of 0 and 1 no path can underflow
    tried = _structural_copy(model, torch.float32, averages=False, biases=False)
    found = _Skeleton(tried, sample.float() if sample.is_floating_point() else sample, binary=True)
    with torch.no_grad():
        silent, met = found.watched_run(1, 0 * found.one)
    constants = bool((silent != 0).any())
    if met.is_binary and not constants and not met.multiplies:
        return found
    # float64: a single path through many sparse layers must not underflow
    made = _structural_copy(model, torch.float64, averages=True, biases=met.multiplies)
    sample = sample.double() if sample.is_floating_point() else sample
    return _Skeleton(made, sample, constants or met.multiplies, met.multiplies)


def _structural_copy(
    model: nn.Module, kind: torch.dtype, *, averages: bool, biases: bool
) -> nn.Module:
    """A copy with weights and biases for where they are not zero: 1, or averages over a row."""
    made = copied(model).requires_grad_(False)
    with torch.no_grad():
        for module in list(made.modules()):
            for name in list(getattr(module, "parametrizations", {})):
                parametrize.remove_parametrizations(module, name)
        for tensor in (*made.parameters(), *made.buffers()):
            if tensor.is_floating_point():
                # before the type changes: a number that is no zero must not become one
                tensor.copy_(tensor.abs() if averages else tensor != 0)
        made.to(kind)
        for module in made.modules():
            if isinstance(module, (*UNIT_LAYERS, *TRANSPOSED)):
                _make_structural(module, averages=averages, biases=biases)
    return made


def _reached_logits(skeleton: _Skeleton, rows: int) -> Tensor:
    """Logits, or their derivatives in the size of the input: positive where a path leads."""
    if not skeleton.constants:
        with torch.no_grad():
            return _checked(skeleton, {_LOGITS: skeleton.run(rows, skeleton.one)})[_LOGITS]
    with torch.enable_grad():
        source = skeleton.one.requires_grad_()
        logits = skeleton.run(rows, source)
    return _checked(skeleton, _derivatives({_LOGITS: logits}, source))[_LOGITS]


def _derivatives_by_site(skeleton: _Skeleton, sites: Sequence[Site]) -> dict[str, Tensor]:
    """Derivative of every site's activation in the size of the input."""
    with torch.enable_grad(), capture(skeleton.model, sites) as seen:
        source = skeleton.one.requires_grad_()
        skeleton.run(1, source)
    return _checked(skeleton, _derivatives(seen, source))


def _derivatives(values: dict[str, Tensor], source: Tensor) -> dict[str, Tensor]:
    """Derivative of every number in one number: that of a weighted sum, in its weights."""
    found = {name: torch.zeros_like(value) for name, value in values.items()}
    names = [name for name, value in values.items() if value.requires_grad]
    if names:
        weights = [torch.zeros_like(values[name]).requires_grad_() for name in names]
        (total,) = torch.autograd.grad(
            [values[name] for name in names], source, weights, create_graph=True
        )
        derivatives = torch.autograd.grad(total, weights)
        found |= dict(zip(names, derivatives, strict=True))
    return found


def _read(
    skeleton: _Skeleton, sites: Sequence[Site]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every site's activation, and the derivative of the logits in it."""
    with capture_leaves(skeleton.model, sites) as seen:
        total = skeleton.run(1, skeleton.one).sum()
    found: Sequence[Tensor | None] = [None] * len(seen)
    if total.requires_grad:
        found = torch.autograd.grad(total, list(seen.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(value) if gradient is None else gradient
        for (name, value), gradient in zip(seen.items(), found, strict=True)
    }
    values = {name: value.detach() for name, value in seen.items()}
    if not skeleton.constants:
        _checked(skeleton, values)
    return values, _checked(skeleton, gradients)


def _checked(skeleton: _Skeleton, found: dict[str, Tensor]) -> dict[str, Tensor]:
    for value in found.values():
        if not bool(value.isfinite().all()) or bool((value < -1e-9 * value.abs().max()).any()):
            raise ValueError(_unknown(skeleton.model, ""))
    return found


def _unknown(model: nn.Module, what: str) -> str:
    return (
        f"the forward of {type(model).__name__} does something whose structure is not known{what}, "
        "so it cannot be followed from input to logits; write it with modules of torch.nn"
    )


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _make_structural(layer: nn.Module, *, averages: bool, biases: bool) -> None:
    """Weights and biases of a layer, in place, for where they are not zero."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    weight.copy_(weight != 0)
    if averages and isinstance(layer, TRANSPOSED):
        # [in, out / groups, ...]: every weight that an output could meet
        weight.div_(weight[:, 0].numel())
    elif averages:
        fan_in = weight.flatten(1).sum(1).clamp(min=1)
        weight.div_(fan_in.reshape(-1, *[1] * (weight.ndim - 1)))
    if isinstance(bias, Tensor):
        bias.copy_((bias != 0) if biases else torch.zeros_like(bias))
