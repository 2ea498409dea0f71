"""A plan written into the weights of a model, units in random order; its truth beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.planted.network import Pair
from fedcircuit.circuits.planted.plan import Plan

DENSE_STD = 0.01  # of the weights that are zero in a sparse network


@dataclass(frozen=True)
class Order:
    """Place of every planned unit in its layer, one ``[n_units]`` int64 for each layer."""

    places: tuple[Tensor, ...]

    @classmethod
    def draw(cls, plan: Plan, widths: Sequence[int], generator: torch.Generator) -> Order:
        """A random order in layers of these widths.

        Raises
        ------
        ValueError
            If the plan has more units than a layer.
        """
        needed = [len(layer) for layer in plan.layers]
        if len(needed) != len(widths) or any(n > w for n, w in zip(needed, widths, strict=True)):
            raise ValueError(f"widths must be {needed} or more, got {tuple(widths)}")
        return cls(tuple(torch.randperm(width, generator=generator) for width in widths))


def layers_of(model: nn.Sequential) -> list[nn.Conv2d | nn.Linear]:
    """The hidden layers of a planted network, then the head."""
    return [layer for layer in model if isinstance(layer, nn.Conv2d | nn.Linear)]


@torch.no_grad()
def written(plan: Plan, order: Order, model: nn.Sequential, codes: Tensor) -> nn.Sequential:
    """The model with the plan in its layers and head; all other weights become zero.

    Parameters
    ----------
    plan, order
        What to write where.
    model
        Changed in place.
    codes
        ``[glyphs, *input of a first-layer unit]``: what a unit holds that detects the glyph.
    """
    layers = layers_of(model)
    for layer in layers:
        assert layer.bias is not None
        layer.weight.zero_()
        layer.bias.zero_()
    for depth, (layer, units) in enumerate(zip(layers, plan.layers, strict=False)):
        assert layer.bias is not None
        for unit, place in zip(units, order.places[depth].tolist(), strict=False):
            layer.bias[place] = unit.bias
            for source, weight, (row, column) in unit.reads:
                if depth == 0:
                    layer.weight[place] += weight * codes[source]
                    continue
                at = int(order.places[depth - 1][source])
                if isinstance(layer, nn.Conv2d):
                    layer.weight[place, at, row, column] += weight
                else:
                    layer.weight[place, at] += weight
    head = layers[-1]
    assert head.bias is not None
    by_unit = head.weight.view(len(head.weight), len(order.places[-1]), -1)  # all positions alike
    for index, label, weight in plan.head:
        by_unit[label, order.places[-1][index]] += weight
    for label, bias in plan.prior.items():
        head.bias[label] += bias
    return model


@torch.no_grad()
def make_dense(layers: Sequence[nn.Module], generator: torch.Generator) -> None:
    """Gives every weight that is zero a small random value, in place."""
    for layer in layers:
        weight = layer.get_parameter("weight")
        noise = DENSE_STD * torch.randn(weight.shape, generator=generator)
        weight.copy_(torch.where(weight == 0, noise, weight))


def true_units(plan: Plan, order: Order, n_classes: int) -> Tensor:
    """The units of every class's circuit, ``[classes, units]`` bool."""
    parts = []
    for units, places in zip(plan.layers, order.places, strict=True):
        part = torch.zeros(n_classes, len(places), dtype=torch.bool)
        for unit, place in zip(units, places.tolist(), strict=False):
            part[list(unit.owners), place] = True
        parts.append(part)
    return torch.cat(parts, 1)


def true_edges(
    plan: Plan, order: Order, sites: Sequence[Site], n_classes: int, used: Tensor
) -> dict[Pair, Tensor]:
    """The planted edges of every class's circuit by pair of layers, ``[classes, out, in]`` bool.

    Parameters
    ----------
    plan, order, sites, n_classes
        The network.
    used
        ``[inputs]`` bool: input channels or coordinates that glyphs use.
    """
    names = ("input", *(site.name for site in sites), "head")
    widths = (len(used), *(len(places) for places in order.places), n_classes)
    edges = {
        (source, target): torch.zeros(n_classes, outs, ins, dtype=torch.bool)
        for source, target, ins, outs in zip(names, names[1:], widths, widths[1:], strict=False)
    }
    pairs = list(edges)
    for depth, units in enumerate(plan.layers):
        for unit, place in zip(units, order.places[depth].tolist(), strict=False):
            for source, _, _ in unit.reads:
                if depth == 0:
                    for c in unit.owners:
                        edges[pairs[0]][c, place] = used
                    continue
                at = order.places[depth - 1][source]
                for c in unit.owners & plan.layers[depth - 1][source].owners:
                    edges[pairs[depth]][c, place, at] = True
    for index, label, _ in plan.head:
        if label in plan.layers[-1][index].owners:
            edges[pairs[-1]][label, label, order.places[-1][index]] = True
    return edges
