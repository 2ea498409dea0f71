"""FedDecorr: local training that keeps the penultimate features from collapsing on few axes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedcircuit.learning.networks import LayerCall, last_call, linear_layers

_EPSILON = 1e-8  # added to variances, as in the published code


def decorrelation(features: Tensor) -> Tensor:
    """Mean squared correlation of all pairs of features, a scalar in [0, 1] (arXiv 2210.00226).

    The squared Frobenius norm of the correlation matrix of a mini-batch, divided by the square of
    the number of features: 1 where all features say the same, 1 / d where they are uncorrelated.
    A feature that is constant over the mini-batch correlates with none, not even itself; a single
    sample has no correlations, so its term is 0.

    Parameters
    ----------
    features
        ``[n, d]``, of the mini-batch.

    Raises
    ------
    ValueError
        If features are not a matrix.
    """
    if features.ndim != 2:
        raise ValueError(f"features must be [n, d], got shape {tuple(features.shape)}")
    centred = features - features.mean(0)
    scaled = centred / torch.sqrt(centred.square().mean(0) + _EPSILON)
    n, d = features.shape
    # ||Z'Z||_F = ||ZZ'||_F: the smaller of the two products
    product = scaled.T @ scaled if d <= n else scaled @ scaled.T
    return product.square().sum() / (n * d) ** 2


class Penultimate:
    """What the last linear layer was given in the latest forward pass.

    Parameters
    ----------
    call
        The latest call of a linear layer.
    """

    def __init__(self, call: LayerCall) -> None:
        self._call = call

    def features(self, logits: Tensor) -> Tensor:
        """The penultimate features ``[n, d]`` behind logits ``[n, classes]``, with their graph.

        Raises
        ------
        ValueError
            If the model's logits are not the output of a linear layer.
        """
        taken, found = self._call.taken, self._call.given
        if taken is None or found is None or taken.ndim != 2 or not _same(found, logits):
            raise ValueError(
                "penultimate features are what the last linear layer takes, but the model's logits "
                "are not the output of a linear layer on [n, features]; put nothing behind it, or "
                "train without FedDecorr"
            )
        return taken


def _same(found: Tensor, logits: Tensor) -> bool:
    if found.shape == logits.shape:
        return bool(torch.equal(found.detach(), logits.detach().to(found)))
    # a single logit stands for two classes: fedcircuit.logits puts a zero before it
    return found.shape == (len(logits), 1) and logits.shape[1] == 2


@contextmanager
def penultimate(model: nn.Module) -> Iterator[Penultimate]:
    """Watch the last linear layer that each forward pass calls, found by type, never by name.

    Nothing is changed, and the hooks are removed at the end, whatever is raised.
    """
    with last_call(linear_layers(model)) as seen:
        yield Penultimate(seen)
