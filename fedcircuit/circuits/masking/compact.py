"""Circuits run as the small networks they are: ablated units are cut out, not multiplied away.

In a network whose layers follow one another, a unit outside a circuit has the same activation for
every sample. What a layer makes of units that are all ablated is therefore one constant, computed
once for all circuits; a circuit adds what its own units change in it. With the weights of these
alone the cost of a circuit falls with the square of the share it keeps. Nothing
is approximated: results agree with the gated network up to rounding, and a network for which they
do not (a branch, a module of its own that changes units) is not run this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits import Site
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

    def apply(self, inputs: Tensor, weight: Tensor, constant: Tensor, kept: Tensor) -> Tensor:
        """Output for some of the units: ``inputs [n, in, ...]`` to ``[n, out, ...]``."""
        out = self._linear(inputs, weight).add_(constant)
        for module in self.after:
            if isinstance(module, nn.ReLU):
                out = out.relu_()  # of this function alone
            else:
                out = _normalised(module, out, kept) if _is_norm(module) else module(out)
        return out

    def sums(self, inputs: Tensor) -> Tensor:
        """What the layer itself makes of all its inputs: ``[n, in, ...]`` to ``[n, out, ...]``."""
        return self._linear(inputs, self.weight).add_(self.bias())

    def bias(self) -> Tensor:
        """The bias as it is added to the output, ``[1, out, ...]``; zeros where there is none."""
        bias = self.layer.bias
        if bias is None:
            bias = self.weight.new_zeros(len(self.weight))
        return _bias(bias, 4 if self.is_conv else 2)

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
class Rest:
    """Links with what they make of ablated units, for many circuits; made by `rest_of`.

    Parameters
    ----------
    links
        From one site to the logits.
    reference
        For every site the activation of ablated units ``[1, units, ...]``; None is zero.
    constants
        For every link what it makes of these, bias included, ``[1, out, ...]``.
    """

    links: tuple[Link, ...]
    reference: tuple[Tensor, ...] | None
    constants: tuple[Tensor, ...]

    def behind_first(self) -> Rest:
        """The same from the next site on."""
        reference = None if self.reference is None else self.reference[1:]
        return Rest(self.links[1:], reference, self.constants[1:])

    def logits(self, value: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """Logits of one circuit, ``[n, classes]``.

        Parameters
        ----------
        value
            Activations of the kept units of the first site less the reference,
            ``[n, kept, ...]``; without kept units those of any one unit.
        kept
            For every site, the positions of the units in the circuit.
        """
        n_logits = self.links[-1].weight.shape[0]
        # a site without kept units is run with one that nobody reads: no tensor is ever empty
        run = [some_units(part) for part in kept]
        after = [*run[1:], torch.arange(n_logits, device=value.device)]
        for place, (link, out) in enumerate(zip(self.links, after, strict=True)):
            last = place + 1 == len(after)
            rows = link.weight if last else link.weight.index_select(0, out)
            constant = self.constants[place] if last else _units(self.constants[place], out)
            weight = _units(rows, run[place])
            value = link.apply(
                value, weight if len(kept[place]) else torch.zeros_like(weight), constant, out
            )
            if not last and self.reference is not None:
                value = value.sub_(_units(self.reference[place + 1], out))
        return value


def rest_of(links: tuple[Link, ...], reference: Sequence[Tensor] | None) -> Rest:
    """Prepare links for many circuits; the reference as in `Rest`."""
    if reference is not None:
        pairs = zip(links, reference, strict=True)
        return Rest(links, tuple(reference), tuple(link.sums(one) for link, one in pairs))
    return Rest(links, None, tuple(link.bias() for link in links))


def links_of(model: nn.Module, sites: Sequence[Site], example: Tensor) -> tuple[Link, ...] | None:
    """The model from its first site to its logits; None where layers do not just follow each other.

    What is found here by order and shape alone must still be compared with the model itself
    (`fedcircuit.circuits.masking.masked_model` does).
    """
    order = call_order(model, example)
    named = {name for site in sites for name in (site.name, site.output)}
    if len(set(order)) != len(order) or not named <= set(order):
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
    return tuple(links)


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
        return Link(layer, layer.weight.detach(), _cheaper(after)) if fits else None
    if isinstance(layer, nn.Linear) and layer.in_features % site.n_units == 0:
        weight = layer.weight.detach().reshape(layer.out_features, site.n_units, -1)
        return Link(layer, weight, _cheaper(after))
    return None


def _cheaper(modules: list[nn.Module]) -> tuple[nn.Module, ...]:
    """The same function: the maximum before the ReLU, which then has fewer numbers to look at."""
    result = list(modules)
    for place, (one, two) in enumerate(pairwise(modules)):
        if isinstance(one, nn.ReLU) and isinstance(two, nn.MaxPool2d):
            result[place : place + 2] = [two, one]
    return tuple(result)


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


def some_units(units: Tensor) -> Tensor:
    """The units, or any one where there is none: no tensor is ever empty."""
    return units if len(units) else units.new_zeros(1)


def kept_values(values: Tensor, kept: Tensor, reference: Sequence[Tensor] | None) -> Tensor:
    """Some units of ``[n, units, ...]`` less the first reference."""
    chosen = _units(values, kept)
    return chosen if reference is None else chosen.sub_(_units(reference[0], kept))


def kept_units(mask: Tensor, sites: Sequence[Site]) -> list[Tensor]:
    """For every site the positions of the mask's units in it; ``mask [units]`` bool."""
    parts = torch.split(mask, [site.n_units for site in sites])
    return [part.nonzero().flatten() for part in parts]


def references(
    reference: Mapping[str, Tensor] | None, sites: Sequence[Site]
) -> tuple[Tensor, ...] | None:
    """The reference by site in order; None for zero ablation."""
    return None if reference is None else tuple(reference[site.name] for site in sites)
