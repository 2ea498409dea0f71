"""Which units can carry anything: non-zero weights followed from the input to the head.

Structural and exact: a copy of the model keeps only *where* its weights are non-zero. Weights
become positive row averages, biases zero, normalisations and nonlinearities the identity, max
pooling average pooling (functions in a ``forward`` likewise, see `fedcircuit.circuits.structure`);
then one all-ones sample runs through it. Every derivative in that copy is a sum of non-negative
terms, so an activation depends on the input exactly if a path of non-zero weights leads to it, and
nothing cancels or overflows. What does not depend on the input (a class token, position embeddings)
is no path.

Covered: chains, residual networks, branches, transformers, whatever their activations. Other
parameters are taken with their absolute values. An upper bound rather than exact: attention masks
are not followed (every token may read all); a head counts as reached also where the input changes
its attention weights alone; position embeddings looked up by ``nn.Embedding`` count as input in a
model of tokens. Group and layer normalisation are followed unit by unit, although their statistics
mix units. A forward whose derivatives still turn out negative or infinite is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fedcircuit.circuits.calls import TRANSPOSED
from fedcircuit.circuits.circuit import Site, split_by_site
from fedcircuit.circuits.sites import UNIT_LAYERS, capture, evaluating, gated, transformed
from fedcircuit.circuits.structure import Structure

_IDENTITIES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Tanh, nn.Softsign, nn.Hardswish, nn.Hardtanh,
)  # fmt: skip
_MAX_POOLS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (nn.MaxPool1d, nn.AvgPool1d),
    (nn.MaxPool2d, nn.AvgPool2d),
    (nn.MaxPool3d, nn.AvgPool3d),
)
_ADAPTIVE_MAX_POOLS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d),
    (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
    (nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d),
)
_CHANNEL_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)


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
    reached = _dependence(skeleton, 1, sites)
    read = _read(skeleton, sites)
    live = []
    for site in sites:
        # at one position a unit must be both
        both = (reached[site.name] * read[site.name]).movedim(site.axis, 0).flatten(1)
        live.append((both > 0).any(1))
    return torch.cat(live).cpu()


def has_path(model: nn.Module, sites: Sequence[Site], masks: Tensor, example: Tensor) -> Tensor:
    """Whether a path input -> ... -> logit leads through kept units only, ``[rows]`` bool.

    Without one the masked network is a constant function, whatever the ablated units are set to.

    Parameters
    ----------
    model, sites
        The model, left as it is, and its sites.
    masks
        ``[rows, units]`` bool, one circuit a row; all run in one batch.
    example
        One or more inputs ``[n, ...]``; only the shape of the first is used.

    Raises
    ------
    ValueError
        If the forward does something whose structure is not known.
    """
    if not len(masks):
        return torch.zeros(0, dtype=torch.bool)
    skeleton = _skeleton(model, example)
    gates = split_by_site(masks.to(skeleton.sample.device), sites)
    with gated(skeleton.model, sites, gates):
        logits = _dependence(skeleton, len(masks), sites)[_LOGITS]
    paths: Tensor = (logits.flatten(1) > 0).any(dim=1).cpu()
    return paths


@dataclass(frozen=True)
class _Skeleton:
    """The non-negative copy of a model, and the one sample to run through it.

    ``constants`` says whether something in it is not zero although the input is.
    """

    model: nn.Module
    sample: Tensor
    constants: bool = True

    def run(self, rows: int, source: Tensor) -> Tensor:
        """Logits, with the input times the source (0 or 1)."""
        tokens = not self.sample.is_floating_point()
        sample = self.sample if tokens else self.sample * source
        with evaluating(self.model), Structure(source if tokens else None):
            try:
                logits: Tensor = self.model(sample.expand(rows, *sample.shape[1:]))
            except NotImplementedError as error:
                raise ValueError(_unknown(self.model, f" ({error})")) from error
        return logits


def _skeleton(model: nn.Module, example: Tensor) -> _Skeleton:
    # float64: a single path through many sparse layers must not underflow
    skeleton = copy.deepcopy(model).double().requires_grad_(False)
    with torch.no_grad():
        for module in skeleton.modules():
            for name in list(getattr(module, "parametrizations", {})):
                parametrize.remove_parametrizations(module, name)
        _make_structural(skeleton)
        for buffer in skeleton.buffers():
            if buffer.is_floating_point():
                buffer.abs_()
    sample = example[:1].to(_device(model))
    sample = torch.ones_like(sample).double() if sample.is_floating_point() else sample
    found = _Skeleton(skeleton, sample)
    with torch.no_grad():
        silent = found.run(1, torch.zeros((), dtype=torch.float64, device=sample.device))
    return _Skeleton(skeleton, sample, constants=bool((silent != 0).any()))


_LOGITS = ""  # a name that no site has


def _dependence(skeleton: _Skeleton, rows: int, sites: Sequence[Site]) -> dict[str, Tensor]:
    """Derivative of every site's activation, and of the logits, in the size of the input."""
    source = torch.ones((), dtype=torch.float64, device=skeleton.sample.device)
    with capture(skeleton.model, sites) as seen:
        if not skeleton.constants:
            # then the values grow from 0 with the input, and are positive where a path leads
            with torch.no_grad():
                logits = skeleton.run(rows, source)
            return _checked(skeleton, {**seen, _LOGITS: logits})
        with torch.enable_grad():
            logits = skeleton.run(rows, source.requires_grad_())
    return _checked(skeleton, _derivatives({**seen, _LOGITS: logits}, source))


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


def _read(skeleton: _Skeleton, sites: Sequence[Site]) -> dict[str, Tensor]:
    """Derivative of the logits in every site's activation."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> Tensor:
        seen[name] = output if output.requires_grad else output.detach().requires_grad_()
        return seen[name]

    one = torch.ones((), dtype=torch.float64, device=skeleton.sample.device)
    keepers = {s.output: (lambda output, name=s.name: keep(name, output)) for s in sites}
    with torch.enable_grad(), transformed(skeleton.model, keepers):
        total = skeleton.run(1, one).sum()
    found = {name: torch.zeros_like(value) for name, value in seen.items()}
    if total.requires_grad:
        gradients = torch.autograd.grad(total, list(seen.values()), allow_unused=True)
        found |= {
            name: gradient
            for name, gradient in zip(seen, gradients, strict=True)
            if gradient is not None
        }
    return _checked(skeleton, found)


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


def _make_structural(module: nn.Module) -> None:
    # not named_children(): it passes over a module that is registered under two names
    for name, child in list(module._modules.items()):
        if child is None:
            continue
        replacement = _replacement(child)
        if replacement is None:
            _make_structural(child)
        else:
            setattr(module, name, replacement)
    weight = module._parameters.get("weight")
    if isinstance(module, (*UNIT_LAYERS, *TRANSPOSED)) and isinstance(weight, Tensor):
        open_weights = (weight != 0).to(weight.dtype)
        if isinstance(module, TRANSPOSED):
            # [in, out / groups, ...]: every weight that an output could meet
            weight.copy_(open_weights / open_weights[:, 0].numel())
        else:
            fan_in = open_weights.flatten(1).sum(1).clamp(min=1)
            weight.copy_(open_weights / fan_in.reshape(-1, *[1] * (weight.ndim - 1)))
        if module.bias is not None:
            module.bias.zero_()
        return
    for parameter in module.parameters(recurse=False):
        parameter.abs_()


def _replacement(module: nn.Module) -> nn.Module | None:
    if isinstance(module, _IDENTITIES):
        return nn.Identity()
    if isinstance(module, _CHANNEL_NORMS):
        return _Scale(module.weight, channels=True)
    if isinstance(module, nn.LayerNorm):
        return _Scale(module.weight, channels=False)
    for kind, average in _MAX_POOLS:
        if isinstance(module, kind):
            if getattr(module, "return_indices", False) or not _is_plain(module):
                return None
            return average(
                module.kernel_size, module.stride, module.padding, ceil_mode=module.ceil_mode
            )
    for kind, average in _ADAPTIVE_MAX_POOLS:
        if isinstance(module, kind) and not module.return_indices:
            return average(module.output_size)
    return None


def _is_plain(pool: nn.Module) -> bool:
    """No dilation: average pooling has none."""
    dilation = pool.dilation
    return bool(dilation == 1 or (isinstance(dilation, tuple) and set(dilation) == {1}))


class _Scale(nn.Module):
    """A normalisation reduced to which of its scales are not zero."""

    def __init__(self, weight: Tensor | None, *, channels: bool) -> None:
        super().__init__()
        self.channels = channels
        self.open = None if weight is None else (weight.detach() != 0)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs, zero where the scale is zero."""
        if self.open is None:
            return inputs
        shape = [1, -1] + [1] * (inputs.ndim - 2) if self.channels else list(self.open.shape)
        return inputs * self.open.reshape(shape).to(inputs.dtype)
