"""The edge layers of a model, which of their edges exist, and what a removed edge reads.

The input units of an edge layer are its input channels, whatever made them: one site, the sum of
two branches of a residual network, or the input of the model. So an edge of a residual network
carries what both branches put into a channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fedcircuit.circuits.edges.edge_circuit import EdgeLayer
from fedcircuit.circuits.masking import Ablation, add_means, class_balanced
from fedcircuit.circuits.models import (
    CONVOLUTIONS,
    UNIT_LAYERS,
    UNIT_MAKERS,
    evaluating,
    layer_weight,
)
from fedcircuit.circuits.sites import Route, call_order, rerouted, transformed
from fedcircuit.logits import inputs_for, logits_of
from fedcircuit.samples import Samples


def find_edge_layers(model: nn.Module, example: Tensor) -> tuple[EdgeLayer, ...]:
    """Layers whose weights are edges, in order of execution; the last one makes the logits.

    The input units of a convolution are its input channels. Those of a linear layer behind a
    flattened map are the channels of the last convolution before it: one of its samples is run
    with each channel marked in turn, and if every mark arrives at one block of features, these are
    the channels. Otherwise every feature is a unit.

    Parameters
    ----------
    model
        Takes one tensor ``[n, ...]``.
    example
        One or more inputs; only the first is used.

    Raises
    ------
    ValueError
        If there is no such layer; one runs more than once in a forward pass; one is a grouped or
        depthwise convolution; its weight is shared with another or computed from others; or the
        model has attention or transposed convolutions.
    """
    _require_own_weights(model)
    order = [n for n in call_order(model, example) if _is_edge_layer(model.get_submodule(n))]
    if not order:
        raise ValueError(
            f"{type(model).__name__} has no edges: expected at least one convolution or linear "
            "layer that is called as a module, found none"
        )
    _require_plain(model, order)
    found: list[EdgeLayer] = []
    last_map: str | None = None  # the last convolution, while no linear layer came after it
    for name in order:
        layer = model.get_submodule(name)
        if isinstance(layer, CONVOLUTIONS):
            in_units, last_map = layer.in_channels, name
        else:
            assert isinstance(layer, nn.Linear)
            in_units = layer.in_features
            if last_map is not None and _reads_blocks(model, last_map, name, example[:1]):
                marked = model.get_submodule(last_map)
                assert isinstance(marked, CONVOLUTIONS)
                in_units = marked.out_channels
            last_map = None
        weight = edge_weight(model, name)
        n_weights = weight.numel() // (weight.shape[0] * in_units)
        found.append(EdgeLayer(name, weight.shape[0], in_units, n_weights))
    return tuple(found)


def edge_weight(model: nn.Module, name: str) -> Tensor:
    """The weight of an edge layer, detached."""
    return layer_weight(model.get_submodule(name))


def existing_edges(model: nn.Module, layers: Sequence[EdgeLayer]) -> Tensor:
    """Edges with a weight that is not zero, ``[edges]`` bool over all layers."""
    return torch.cat(
        [(layer.per_edge(edge_weight(model, layer.name)) != 0).any(2).flatten() for layer in layers]
    ).cpu()


@torch.no_grad()
def layer_references(
    model: nn.Module,
    layers: Sequence[EdgeLayer],
    samples: Samples,
    *,
    n_classes: int,
    ablation: Ablation,
    rows: int = 500,
) -> dict[str, Tensor]:
    """What a removed edge reads: a constant input ``[1, ...]`` of every layer, by its name.

    Zero, or the mean input of the layer at every position, first within and then over the classes
    that have samples. Where a layer reads one site, that is the site's reference activation
    (`fedcircuit.circuits.masking.reference_activations`).

    Parameters
    ----------
    model, layers
        The model and its edge layers.
    samples
        What the mean is taken of.
    n_classes
        Number of classes of the task.
    ablation
        ``"zero"`` or ``"mean"``.
    rows
        Most samples in one forward pass.

    Raises
    ------
    ValueError
        If the ablation is another one, or there is no sample.
    """
    if ablation not in ("zero", "mean"):
        raise ValueError(
            f"a removed edge reads zero or a mean: ablation must be 'zero' or 'mean', "
            f"got {ablation!r}"
        )
    if not len(samples):
        raise ValueError("references of edges need at least one sample, got none")
    weights = class_balanced(samples.labels, n_classes)
    total: dict[str, Tensor] = {}
    for part in torch.split(torch.arange(len(samples)), rows):
        add_means(total, weights[part], _layer_inputs(model, layers, samples.inputs[part]))
    if ablation == "zero":
        return {name: torch.zeros_like(value) for name, value in total.items()}
    return total


def _layer_inputs(
    model: nn.Module, layers: Sequence[EdgeLayer], inputs: Tensor
) -> Mapping[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Route:
        def route(value: Tensor, output: Tensor) -> Tensor:
            seen[name] = value
            return output

        return route

    routes = {layer.name: keep(layer.name) for layer in layers}
    with evaluating(model), torch.no_grad(), rerouted(model, routes):
        logits_of(model, inputs)
    return seen


def _is_edge_layer(module: nn.Module) -> bool:
    return isinstance(module, UNIT_LAYERS)


def _require_own_weights(model: nn.Module) -> None:
    """No layer makes units by other means than a weight of its own that is one edge a pair."""
    for name, layer in model.named_modules():
        if isinstance(layer, UNIT_MAKERS) and not _is_edge_layer(layer):
            raise ValueError(
                f"layer {name!r} is a {type(layer).__name__}; edges are defined for networks of "
                "convolutions and linear layers. Look for circuits of units instead"
            )
        if _is_edge_layer(layer) and layer._parameters.get("weight") is None:
            raise ValueError(
                f"layer {name!r} has no weight of its own (is it computed from other "
                "parameters?); remove parametrizations before looking for edges"
            )


def _require_plain(model: nn.Module, order: Sequence[str]) -> None:
    """Every layer runs once, is not grouped, and shares its weight with no other."""
    owners: dict[int, str] = {}
    for name, count in Counter(order).items():
        layer = model.get_submodule(name)
        if count > 1:
            raise ValueError(
                f"layer {name!r} of {type(model).__name__} runs {count} times in one forward "
                "pass; its edges have no single place. Use one layer for each place"
            )
        if isinstance(layer, CONVOLUTIONS) and layer.groups != 1:
            raise ValueError(
                f"convolution {name!r} has {layer.groups} groups; edges are defined for "
                "convolutions in which every unit may read every channel (groups=1)"
            )
        weight = layer.weight
        if id(weight) in owners:
            raise ValueError(
                f"layers {owners[id(weight)]!r} and {name!r} share one weight; an edge would "
                "stand for two places. Give each layer a weight of its own"
            )
        owners[id(weight)] = name


def _reads_blocks(model: nn.Module, conv: str, linear: str, example: Tensor) -> bool:
    """Whether feature i of the linear layer comes from channel ``i // block`` of the map alone."""
    layer = model.get_submodule(linear)
    channels = model.get_submodule(conv).out_channels
    assert isinstance(layer, nn.Linear)
    assert isinstance(channels, int)
    if layer.in_features % channels:
        return False
    seen: dict[str, Tensor] = {}

    def mark(output: Tensor) -> Tensor:
        rows = torch.arange(channels, device=output.device)
        marked = output.clone()
        marked[rows, rows] = torch.nan  # row u: not a number in channel u
        return marked

    def keep(value: Tensor, output: Tensor) -> Tensor:
        seen["features"] = value
        return output

    with (
        evaluating(model),
        torch.no_grad(),
        transformed(model, {conv: mark}),
        rerouted(model, {linear: keep}),
    ):
        model(inputs_for(model, example).expand(channels, *example.shape[1:]))
    features = seen["features"]
    if features.ndim != 2:
        return False
    blocks = torch.eye(channels, dtype=torch.bool).repeat_interleave(
        layer.in_features // channels, dim=1
    )
    return torch.equal(features.isnan().cpu(), blocks)
