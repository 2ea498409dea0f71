"""Scores of all edges for all classes: the first-order effect of what an edge carries.

Edge attribution patching (Syed et al. 2023, arXiv 2310.10348) on the weights of a network: the
effect of the edge ``u -> v`` on a quantity T is
``sum over taps of W[v, u, tap] dT / dW[v, u, tap]``, the derivative taken with centred inputs
``h_u - mu_u``. That is, to first order, what T loses when unit v reads the reference ``mu_u``
instead of u. With zero reference ``mu = 0``. T is the contrast of each class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits.edges.edge_circuit import EdgeLayer
from fedcircuit.circuits.edges.edge_layers import edge_weight
from fedcircuit.circuits.models import CONVOLUTIONS, evaluating
from fedcircuit.circuits.search import Meter, contrast_of_logits, frozen
from fedcircuit.circuits.sites import Route, rerouted
from fedcircuit.logits import logits_of
from fedcircuit.samples import Samples

Against = Literal["both", "all"]


def edge_scores(
    model: nn.Module,
    layers: Sequence[EdgeLayer],
    samples: Samples,
    references: Mapping[str, Tensor],
    *,
    n_classes: int,
    against: Against = "both",
    meter: Meter | None = None,
) -> Tensor:
    """Scores ``[classes, edges]`` of all edges of all layers, larger is more important.

    Parameters and refusals are those of `edge_effects` and `scores_of_effects`.
    """
    effects = edge_effects(model, layers, samples, references, n_classes=n_classes, meter=meter)
    return scores_of_effects(effects, samples, layers, n_classes=n_classes, against=against)


def scores_of_effects(
    effects: Iterable[tuple[int, Tensor]],
    samples: Samples,
    layers: Sequence[EdgeLayer],
    *,
    n_classes: int,
    against: Against = "both",
) -> Tensor:
    """Scores ``[classes, edges]`` of all edges of all layers, larger is more important.

    An edge's score for class c is its mean effect on samples of c, less its mean effect on samples
    of other classes. With ``against="both"`` half of it is against the class from which the edge
    separates c most, and half against the mean of all, as for units
    (`fedcircuit.circuits.search.against_others`; but units whose effect may be an
    accident are left out, see `fedcircuit.circuits.methods.Attribution`). With
    ``"all"`` it is the mean alone. These scores add up: for a unit that one layer reads, ``sum
    over v of S[u -> v]`` is the unit's own gradient score
    (`fedcircuit.circuits.search.shared_gradients`).

    An edge that does not exist has score 0. A class without samples has NaN, and so has every
    class if fewer than two have samples.

    Parameters
    ----------
    effects
        As `edge_effects` gives them.
    samples, layers, n_classes
        Those that they are of.
    against
        ``"both"`` or ``"all"``.

    Raises
    ------
    ValueError
        If ``against`` is something else.
    """
    if against not in get_args(Against):
        raise ValueError(f"against must be one of {get_args(Against)}, got {against!r}")
    own = torch.full((n_classes, sum(layer.n_edges for layer in layers)), torch.nan)
    best, mean = torch.full_like(own, -torch.inf), torch.zeros_like(own)
    present = int((samples.counts(n_classes) > 0).sum())
    if present < 2:
        return own
    for label, found in effects:
        own[label] = found[label]
        rows = torch.arange(n_classes) != label
        best[rows] = torch.maximum(best[rows], -found[rows])
        mean[rows] -= found[rows] / (present - 1)
    return own + (mean if against == "all" else (best + mean) / 2)


def edge_effects(
    model: nn.Module,
    layers: Sequence[EdgeLayer],
    samples: Samples,
    references: Mapping[str, Tensor],
    *,
    n_classes: int,
    meter: Meter | None = None,
    rows: int = 500,
) -> Iterator[tuple[int, Tensor]]:
    """Mean first-order effect of every edge on every class's contrast, by the true class.

    One forward pass over all samples, and one backward pass for each class; every sample serves
    every class. For a unit that one layer reads, the effects of its edges sum to its own.

    Parameters
    ----------
    model, layers
        The model, left as it is, and its edge layers.
    samples, n_classes
        Samples of all classes; number of classes of the task.
    references
        By layer name, what a removed edge reads, ``[1, ...]``.
    meter
        Counts the images; None counts nothing.
    rows
        Most samples in one forward and backward pass.

    Yields
    ------
    tuple
        For each class that has samples: the class, and the mean effects on its samples
        ``[classes, edges]``, one row for the contrast of each class
        (`fedcircuit.circuits.search.contrast`).
    """
    meter = meter or Meter()
    weights = {layer.name: edge_weight(model, layer.name).clone() for layer in layers}
    for weight in weights.values():
        weight.requires_grad_()
    n_edges = sum(layer.n_edges for layer in layers)
    for label in samples.counts(n_classes).nonzero().flatten().tolist():
        members = (samples.labels == label).nonzero().flatten()
        total = torch.zeros(n_classes, n_edges)
        for part in torch.split(members, rows):
            few = samples.take(part)
            with evaluating(model), frozen(model), torch.enable_grad():
                with _centred(model, weights, references):
                    logits = logits_of(model, few.inputs)
                for c in range(n_classes):
                    target = torch.full_like(few.labels, c)
                    contrast = contrast_of_logits(few.labels, target, n_classes)
                    gradients = torch.autograd.grad(
                        (logits * contrast.to(logits)).sum() / len(members),
                        list(weights.values()),
                        retain_graph=c + 1 < n_classes,
                    )
                    total[c] += _summed(gradients, weights, layers)
            meter.forward += len(part)
            meter.backward += n_classes * len(part)
        yield label, total


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
