"""Scores of all edges for all classes: the first-order effect of what an edge carries.

Edge attribution patching (Syed et al. 2023, arXiv 2310.10348) on the weights of a network:
``S[c, u -> v] = sum over taps of W[v, u, tap] d sep_c / d W[v, u, tap]``, the derivative taken with
centred inputs ``h_u - mu_u``. That is the first-order effect on the separation of class c of
unit v reading u itself instead of its reference ``mu_u``. With zero reference ``mu = 0``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits.discovery.gradients import separation_weights
from fedcircuit.circuits.discovery.protocol import Meter, frozen
from fedcircuit.circuits.edges.circuit import EdgeLayer
from fedcircuit.circuits.edges.layers import edge_weight
from fedcircuit.circuits.sites import CONVOLUTIONS, Route, evaluating, rerouted
from fedcircuit.samples import Samples

_ROWS = 500  # samples in one forward and backward pass: bounds the memory


def edge_scores(
    model: nn.Module,
    layers: Sequence[EdgeLayer],
    samples: Samples,
    references: Mapping[str, Tensor],
    *,
    n_classes: int,
    meter: Meter | None = None,
) -> Tensor:
    """Scores ``[classes, edges]`` of all edges of all layers, larger is more important.

    One forward pass, and one backward pass for each class; every sample serves every class. The
    separation is that of `fedcircuit.circuits.discovery.gradients.separation_weights`, so for a
    unit that one layer reads ``sum over v of S[u -> v]`` is the unit's own gradient score. An edge
    that does not exist has score 0. The rows of classes without samples mean nothing.

    Parameters
    ----------
    model, layers
        The model, left as it is, and its edge layers.
    samples
        Samples of all classes.
    references
        By layer name, what a removed edge reads, ``[1, ...]``.
    n_classes
        Number of classes of the task.
    meter
        Counts the images; None counts nothing.

    References
    ----------
    Syed et al. 2023, arXiv 2310.10348; the sum over target units is the check of that form.
    """
    meter = meter or Meter()
    every = [separation_weights(samples.labels, n_classes, c) for c in range(n_classes)]
    total = torch.zeros(n_classes, sum(layer.n_edges for layer in layers))
    weights = {layer.name: edge_weight(model, layer.name).clone() for layer in layers}
    with evaluating(model), frozen(model), torch.enable_grad():
        for weight in weights.values():
            weight.requires_grad_()
        for part in torch.split(torch.arange(len(samples)), _ROWS):
            with _centred(model, weights, references):
                logits = model(samples.inputs[part])
            meter.forward += len(part)
            for c, contrast in enumerate(every):
                separation = (logits * contrast[part].to(logits)).sum()
                gradients = torch.autograd.grad(
                    separation, list(weights.values()), retain_graph=c + 1 < n_classes
                )
                meter.backward += len(part)
                total[c] += _summed(gradients, weights, layers)
    return total


@contextmanager
def _centred(
    model: nn.Module, weights: Mapping[str, Tensor], references: Mapping[str, Tensor]
) -> Iterator[None]:
    """The same function, in which each weight meets its input less the reference only."""

    def route(name: str) -> Route:
        layer, weight, reference = model.get_submodule(name), weights[name], references[name]
        with torch.no_grad():
            constant = layer(reference)  # what v reads of the references, and its bias

        def centred(value: Tensor, output: Tensor) -> Tensor:
            result: Tensor = linear_part(layer, weight, value - reference) + constant
            return result

        return centred

    with rerouted(model, {name: route(name) for name in weights}):
        yield


def linear_part(layer: nn.Module, weight: Tensor, value: Tensor) -> Tensor:
    """The output of a layer without its bias, under another weight."""
    output: Tensor
    if isinstance(layer, CONVOLUTIONS):
        output = layer._conv_forward(value, weight, None)  # with the padding mode of the layer
    else:
        output = functional.linear(value, weight)
    return output


def _summed(
    gradients: Sequence[Tensor], weights: Mapping[str, Tensor], layers: Sequence[EdgeLayer]
) -> Tensor:
    """Weight times gradient, summed over the weights of each edge: ``[edges]``."""
    parts = [
        layer.per_edge(gradient * weights[layer.name].detach()).sum(2).flatten()
        for layer, gradient in zip(layers, gradients, strict=True)
    ]
    return torch.cat(parts).float().cpu()
