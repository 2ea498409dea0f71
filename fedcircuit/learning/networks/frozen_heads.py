"""Heads that are never trained: a simplex or an orthogonal frame that all clients share.

Where clients hold different classes, averaging breaks the last layer first. A head that nobody
trains cannot be broken: features learn to meet it.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fedcircuit.learning import generator

Head = Literal["linear", "simplex", "orthogonal"]


def frozen_rows(
    kind: Literal["simplex", "orthogonal"], n_classes: int, n_features: int, *, seed: int
) -> Tensor:
    """Rows of unit length, float32 ``[classes, features]``, in a random rotation.

    ``simplex``: an equiangular tight frame ``sqrt(C / (C - 1)) (I - 11' / C) U'`` with orthonormal
    columns ``U``, so that the cosine of any two rows is ``-1 / (C - 1)``, the least that C
    directions can have (FedETF, arXiv 2303.10058). ``orthogonal``: rows that are orthogonal
    (SphereFed, arXiv 2207.09413).

    Raises
    ------
    ValueError
        If there are fewer than two classes, or fewer features than classes.
    """
    if n_classes < 2 or n_features < n_classes:
        raise ValueError(
            f"a frozen {kind} head needs at least two classes and as many features as classes, got "
            f"{n_classes} classes and {n_features} features; make the layer before it wider"
        )
    draw = torch.randn(
        n_features, n_classes, generator=generator(seed, "frozen head"), dtype=torch.float64
    )
    basis: Tensor = torch.linalg.qr(draw).Q.T  # [classes, features], orthonormal rows
    if kind == "simplex":
        centred = torch.eye(n_classes, dtype=torch.float64) - 1.0 / n_classes
        basis = sqrt(n_classes / (n_classes - 1)) * centred @ basis
    return basis.float()


class UnitLength(nn.Module):
    """Scales every sample's features ``[n, d]`` to length 1; features of zeros stay zero."""

    def forward(self, features: Tensor) -> Tensor:
        """``[n, d]`` to ``[n, d]``."""
        scaled: Tensor = nn.functional.normalize(features, dim=1)
        return scaled


class FrozenLinear(nn.Linear):
    """A linear layer without bias whose weight is no parameter and is not in the state dict.

    So it is not trained, not cut by weight sparsity, not sent and not averaged: whoever builds the
    network has the same bits of it for ever.

    Parameters
    ----------
    rows
        ``[out, in]``.
    """

    def __init__(self, rows: Tensor) -> None:
        super().__init__(rows.shape[1], rows.shape[0], bias=False, device="meta")
        del self.weight
        self.register_buffer("weight", rows, persistent=False)


def with_frozen_head(
    model: nn.Sequential,
    kind: Literal["simplex", "orthogonal"],
    *,
    seed: int,
    scale: float = 10.0,
) -> nn.Sequential:
    """The same layers with a frozen head in place of the last, a linear layer.

    Logits are ``scale`` times the cosine of features and row: ``UnitLength`` then ``FrozenLinear``.

    Parameters
    ----------
    model
        A sequence of layers that ends with ``nn.Linear``; it is left as it is, its other layers
        are shared.
    kind
        See :func:`frozen_rows`.
    seed
        Of the rotation; the same for server and clients.
    scale
        Inverse temperature of the softmax.

    Raises
    ------
    ValueError
        If the model does not end with a linear layer, is too narrow, or the scale is not positive.
    """
    if kind not in ("simplex", "orthogonal"):
        raise ValueError(f"head must be one of {get_args(Head)}, got {kind!r}")
    if not scale > 0:
        raise ValueError(f"the scale of a frozen head must be > 0, got {scale}")
    *body, head = model
    if not isinstance(head, nn.Linear):
        raise ValueError(
            f"a frozen head takes the place of a last linear layer, the model ends with "
            f"{type(head).__name__}"
        )
    rows = frozen_rows(kind, head.out_features, head.in_features, seed=seed)
    return nn.Sequential(*body, UnitLength(), FrozenLinear(scale * rows))
