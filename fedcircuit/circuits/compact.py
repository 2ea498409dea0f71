"""Circuits run as the small networks they are: ablated units are cut out, not multiplied away.

In a network whose layers follow one another, a unit outside a circuit has the same activation for
every sample, so what the next layer reads of it is one constant. With the weights of kept units
alone and that constant, the cost of a circuit falls with the square of the share it keeps. Nothing
is approximated: results agree with the gated network up to rounding, and a network for which they
do not (a branch, a module of its own that changes units) is not run this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.sites import call_order

_PLAIN = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    nn.Identity, nn.Dropout, nn.Dropout2d,
)  # fmt: skip
_BETWEEN = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)


@dataclass(frozen=True)
class Link:
    """A layer behind a site, with the unit-wise modules that follow it.

    Parameters
    ----------
    layer
        The convolution or linear layer.
    weight
        ``[out, in_units, ...]``: of a linear layer behind a flattened map ``[out, units, places]``.
    after
        Modules up to the next site's output; none behind the head.
    """

    layer: nn.Conv2d | nn.Linear
    weight: Tensor
    after: tuple[nn.Module, ...]

    def apply(
        self, inputs: Tensor, weight: Tensor, constant: Tensor | None, kept: Tensor
    ) -> Tensor:
        """Output for some of the units: ``inputs [n, in, ...]`` to ``[n, out, ...]``."""
        out = self._linear(inputs, weight)
        if constant is not None:
            out = out + constant
        for module in self.after:
            out = _normalised(module, out, kept) if _is_norm(module) else module(out)
        return out

    def constant(self, ablated: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
        """What the units ``kept`` read of ablated inputs, and their bias: ``[1, out, ...]``."""
        out = self._linear(ablated, weight)
        return out if self.layer.bias is None else out + _bias(self.layer.bias[kept], out.ndim)

    def bias(self, kept: Tensor, like: Tensor) -> Tensor | None:
        """The bias of the units ``kept``, as it is added to their output."""
        if self.layer.bias is None:
            return None
        return _bias(self.layer.bias[kept], 4 if like.ndim == 4 and self.is_conv else 2)

    @property
    def is_conv(self) -> bool:
        """Whether the layer is a convolution."""
        return isinstance(self.layer, nn.Conv2d)

    def _linear(self, inputs: Tensor, weight: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Conv2d):
            layer = self.layer
            padding = layer.padding
            return functional.conv2d(
                inputs, weight, None, layer.stride, padding, layer.dilation, layer.groups
            )
        return functional.linear(inputs.flatten(1), weight.flatten(1))


@dataclass(frozen=True)
class Chain:
    """A network as links from its first site to its logits; made by `chain_of`."""

    links: tuple[Link, ...]

    def logits(
        self,
        first: Tensor,
        kept: Sequence[Tensor],
        reference: Sequence[Tensor] | None,
    ) -> Tensor:
        """Logits of one circuit, ``[n, classes]``.

        Parameters
        ----------
        first
            Activations of the first site, ``[n, units, ...]``, ungated.
        kept
            For every site, the positions of the units in the circuit.
        reference
            For every site, the activation of ablated units ``[1, units, ...]``; None is zero.
        """
        n_logits = self.links[-1].weight.shape[0]
        # a site without kept units is run with one that nobody reads: no tensor is ever empty
        run = [part if len(part) else part.new_zeros(1) for part in kept]
        after = [*run[1:], torch.arange(n_logits, device=first.device)]
        value = _units(first, run[0])
        for place, (link, out) in enumerate(zip(self.links, after, strict=True)):
            rows = link.weight if place + 1 == len(after) else link.weight.index_select(0, out)
            if reference is None:
                constant = link.bias(out, value)
            else:
                ablated = reference[place].index_fill(1, kept[place], 0.0)
                constant = link.constant(ablated, rows, out)
            weight = _units(rows, run[place])
            value = link.apply(
                value, weight if len(kept[place]) else torch.zeros_like(weight), constant, out
            )
        return value


def chain_of(model: nn.Module, sites: Sequence[Site], example: Tensor) -> Chain | None:
    """The model as a chain of links; None where its layers do not simply follow one another.

    What is found here by order and shape alone must still be compared with the model itself
    (`fedcircuit.circuits.masking.masked_model` does).
    """
    order = call_order(model, example)
    if len(set(order)) != len(order) or any(name not in order for s in sites for name in _ends(s)):
        return None
    links: list[Link] = []
    for index, site in enumerate(sites):
        start = order.index(site.output) + 1
        is_last = index + 1 == len(sites)
        end = len(order) if is_last else order.index(sites[index + 1].output) + 1
        link = _link([model.get_submodule(name) for name in order[start:end]], site, last=is_last)
        if link is None:
            return None
        links.append(link)
    return Chain(tuple(links))


def _ends(site: Site) -> tuple[str, str]:
    return site.name, site.output


def _link(modules: list[nn.Module], site: Site, *, last: bool) -> Link | None:
    while modules and isinstance(modules[0], _BETWEEN):
        modules = modules[1:]
    if not modules:
        return None
    layer, after = modules[0], modules[1:]
    if not all(isinstance(m, _PLAIN) or _is_norm(m) for m in after) or (last and after):
        return None
    if isinstance(layer, nn.Conv2d):
        plain = layer.groups == 1 and layer.padding_mode == "zeros"
        fits = plain and layer.in_channels == site.n_units
        return Link(layer, layer.weight.detach(), tuple(after)) if fits else None
    if isinstance(layer, nn.Linear) and layer.in_features % site.n_units == 0:
        weight = layer.weight.detach().reshape(layer.out_features, site.n_units, -1)
        return Link(layer, weight, tuple(after))
    return None


def _is_norm(module: nn.Module) -> bool:
    batch = isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
    return batch and getattr(module, "running_mean", None) is not None


def _normalised(module: nn.Module, values: Tensor, kept: Tensor) -> Tensor:
    """Batch normalisation in eval mode, of some of its channels."""
    assert isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))

    def part(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[kept]

    return functional.batch_norm(
        values,
        part(module.running_mean),
        part(module.running_var),
        part(module.weight),
        part(module.bias),
        False,
        0.0,
        module.eps,
    )


def _bias(bias: Tensor, ndim: int) -> Tensor:
    return bias.detach().reshape(1, -1, *[1] * (ndim - 2))


def _units(values: Tensor, kept: Tensor) -> Tensor:
    """Some units of ``[n, units, ...]``; maps in channels-last layout, the fast one for pooling."""
    if values.ndim != 4:
        return values.index_select(1, kept)
    return values.permute(0, 2, 3, 1).index_select(3, kept).permute(0, 3, 1, 2)


def kept_units(mask: Tensor, sites: Sequence[Site]) -> list[Tensor]:
    """For every site the positions of the mask's units in it; ``mask [units]`` bool."""
    parts = torch.split(mask, [site.n_units for site in sites])
    return [part.nonzero().flatten() for part in parts]


def references(
    reference: Mapping[str, Tensor] | None, sites: Sequence[Site]
) -> tuple[Tensor, ...] | None:
    """The reference by site in order; None for zero ablation."""
    return None if reference is None else tuple(reference[site.name] for site in sites)
