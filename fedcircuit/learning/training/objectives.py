"""Local objectives in place of cross-entropy, and FedProx's term beside them.

Each objective is a frozen dataclass that is called as ``loss(logits, labels, class_counts)``, so it
serves a training loop of one's own as well as ``LocalTraining(objective=...)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Objective(Protocol):
    """A local loss: any function of these three tensors will do."""

    def __call__(self, logits: Tensor, labels: Tensor, class_counts: Tensor, /) -> Tensor:
        """Mean loss of a mini-batch, a scalar.

        Parameters
        ----------
        logits
            ``[n, classes]``.
        labels
            ``[n]`` int64.
        class_counts
            ``[classes]`` int64, the client's training samples of each class, not the batch's.
        """
        ...


@dataclass(frozen=True)
class FedLC:
    """Cross-entropy of calibrated logits ``z_c - tau * n_c^(-1/4)`` (arXiv 2209.00189).

    Rare classes must win by a margin. A class that the client lacks has an infinite margin: its
    logit is left out of the softmax and gets no gradient. ``tau`` 0 is plain cross-entropy, bit for
    bit. The sum in the denominator is over all held classes; the paper writes it without the
    sample's own, which is no softmax and unbounded below.

    Raises
    ------
    ValueError
        If tau is negative or not finite; when called, if counts do not fit the logits or labels.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        _check_tau("FedLC", self.tau)

    def offsets(self, class_counts: Tensor) -> Tensor:
        """What is added to the logits, float64 ``[classes]``; -inf where the client has none."""
        if self.tau == 0:
            return torch.zeros(class_counts.shape, dtype=torch.float64)
        return -self.tau * class_counts.double() ** -0.25

    def __call__(self, logits: Tensor, labels: Tensor, class_counts: Tensor) -> Tensor:
        """Mean loss of a mini-batch; see :class:`Objective`."""
        return _cross_entropy(self, logits, labels, class_counts)


@dataclass(frozen=True)
class LogitAdjustment:
    """Cross-entropy of ``z_c + tau * log(pi_c)``, pi the client's label shares (arXiv 2007.07314).

    With ``tau`` 1 it is the balanced softmax: what is learned is how likely each class would be if
    all were as frequent. A class that the client lacks is left out of the softmax and gets no
    gradient. ``tau`` 0 is plain cross-entropy, bit for bit.

    Raises
    ------
    ValueError
        If tau is negative or not finite; when called, if counts do not fit the logits or labels.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        _check_tau("logit adjustment", self.tau)

    def offsets(self, class_counts: Tensor) -> Tensor:
        """What is added to the logits, float64 ``[classes]``; -inf where the client has none."""
        if self.tau == 0:
            return torch.zeros(class_counts.shape, dtype=torch.float64)
        counts = class_counts.double()
        return self.tau * torch.log(counts / counts.sum())

    def __call__(self, logits: Tensor, labels: Tensor, class_counts: Tensor) -> Tensor:
        """Mean loss of a mini-batch; see :class:`Objective`."""
        return _cross_entropy(self, logits, labels, class_counts)


@dataclass(frozen=True)
class FedRS:
    """Restricted softmax: logits of classes the client lacks are scaled down in training.

    ``binary`` is the paper's rule (Li and Zhan, KDD 2021): ``alpha`` for a missing class, 1 for
    one it holds. ``soft`` scales by ``alpha + (1 - alpha) * p_c / max_j p_j``, with ``p`` the
    client's label shares (the rule of the public code of arXiv 2512.23043).

    Raises
    ------
    ValueError
        If alpha lies outside [0, 1]; when called, if counts do not fit the logits or labels.
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

    def __call__(self, logits: Tensor, labels: Tensor, class_counts: Tensor) -> Tensor:
        """Mean loss of a mini-batch; see :class:`Objective`."""
        _check_counts(logits, labels, class_counts)
        return functional.cross_entropy(logits * self.scale(class_counts).to(logits), labels)


def _cross_entropy(
    rule: FedLC | LogitAdjustment, logits: Tensor, labels: Tensor, class_counts: Tensor
) -> Tensor:
    _check_counts(logits, labels, class_counts)
    if rule.tau == 0:
        return functional.cross_entropy(logits, labels)
    return functional.cross_entropy(logits + rule.offsets(class_counts).to(logits), labels)


def _check_tau(name: str, tau: float) -> None:
    if not (isfinite(tau) and tau >= 0):
        raise ValueError(f"tau of {name} must be a finite number >= 0, got {tau}")


def _check_counts(logits: Tensor, labels: Tensor, class_counts: Tensor) -> None:
    if class_counts.shape != logits.shape[1:]:
        raise ValueError(
            f"class_counts must be one number a class, {tuple(logits.shape[1:])} for these logits, "
            f"got shape {tuple(class_counts.shape)}"
        )
    own = class_counts.to(labels.device)[labels]
    if bool((own <= 0).any()):
        lacking = sorted(set(labels[own <= 0].tolist()))
        raise ValueError(
            f"the mini-batch has samples of the classes {lacking}, of which class_counts says the "
            "client has none; give the counts of all its training samples"
        )


def proximal_term(model: nn.Module, start: Mapping[str, Tensor]) -> Tensor:
    """Half the squared Euclidean distance of the parameters to where the round started.

    FedProx (Li et al. 2020, arXiv 1812.06127) adds ``mu`` times this to the loss.
    """
    terms = [
        (parameter - start[name]).square().sum() for name, parameter in model.named_parameters()
    ]
    return 0.5 * torch.stack(terms).sum()
