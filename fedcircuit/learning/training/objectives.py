"""Local objectives beyond cross-entropy: FedProx's proximal term and FedRS's logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class FedRS:
    """Restricted softmax: logits of classes the client lacks are scaled down in training.

    ``binary`` is the paper's rule (Li and Zhan, KDD 2021): ``alpha`` for a missing class, 1 for
    one it holds. ``soft`` scales by ``alpha + (1 - alpha) * p_c / max_j p_j``, with ``p`` the
    client's label shares (the rule of the public code of arXiv 2512.23043).

    Raises
    ------
    ValueError
        If alpha lies outside [0, 1].
    """

    kind: Literal["binary", "soft"]
    alpha: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha of FedRS must lie in [0, 1], got {self.alpha}")

    def scale(self, counts: Tensor) -> Tensor:
        """Factors ``[classes]`` of the logits for a client with these label counts."""
        if self.kind == "binary":
            return torch.where(counts > 0, 1.0, self.alpha)
        return self.alpha + (1.0 - self.alpha) * counts / counts.max()


def proximal_term(model: nn.Module, start: Mapping[str, Tensor]) -> Tensor:
    """Half the squared Euclidean distance of the parameters to where the round started.

    FedProx (Li et al. 2020, arXiv 1812.06127) adds ``mu`` times this to the loss.
    """
    terms = [
        (parameter - start[name]).square().sum() for name, parameter in model.named_parameters()
    ]
    return 0.5 * torch.stack(terms).sum()
