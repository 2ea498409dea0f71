"""Class moments of what the head reads: pooled from the clients, or taken on the probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedcircuit import messages
from fedcircuit.aggregation import Floats, RuleError, Setting, Updates, hint, loaded, said_array
from fedcircuit.aggregation.heads.head import said_by_class
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class Moments:
    """Of D features by class: samples ``[classes]``, sums ``[classes, D]``, sums of outer products.

    Those of disjoint sets of samples add up to those of all, exactly.
    """

    n: Floats
    sums: Floats
    outer: Floats  # [classes, D, D]

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.sums + other.sums, self.outer + other.outer)

    @property
    def means(self) -> Floats:
        """``[classes, D]``; 0 where a class has no samples."""
        means: Floats = self.sums / np.maximum(self.n, 1.0)[:, None]
        return means

    def covariance(self, index: int) -> Floats:
        """``[D, D]`` of one class, divided by n, shrunk where it has fewer samples than features.

        The shrinkage is the oracle approximating one (Chen et al. 2010, arXiv 0907.4698) towards
        equal variances; it needs no more than the moments.
        """
        n, mean = float(self.n[index]), self.means[index]
        size = len(mean)
        if n < 1:
            return np.zeros((size, size))
        own: Floats = self.outer[index] / n
        own -= mean[:, None] * mean
        own = (own + own.T) / 2.0
        if n >= size:
            return own
        level = float(np.trace(own)) / size
        squares = float(np.vdot(own, own)) / size**2
        least = (n + 1.0) * (squares - level**2 / size)
        share = 1.0 if least <= 0 else min(1.0, (squares + level**2) / least)
        own *= 1.0 - share
        own.flat[:: size + 1] += share * level
        return own


def moments_of(features: Floats, labels: Floats, n_classes: int) -> Moments:
    """Moments of features ``[n, D]`` and labels ``[n]``."""
    size = features.shape[1]
    n, sums = np.zeros(n_classes), np.zeros((n_classes, size))
    outer = np.zeros((n_classes, size, size))
    for index in range(n_classes):
        own = features[labels == index].astype(np.float64)
        n[index], sums[index], outer[index] = len(own), own.sum(axis=0), own.T @ own
    return Moments(n, sums, outer)


def pooled_moments(
    rule: str, updates: Updates, average: Weights, setting: Setting, head: str
) -> Moments:
    """Those that all clients say; where none says any, those of the probe at the average.

    Clients' moments are of the body that they were sent or have trained; only the probe's are of
    the averaged body.

    Parameters
    ----------
    head
        Name of the head's weight ``[classes, D]``.

    Raises
    ------
    RuleError
        If some clients say moments and some do not, or they do not fit; if there is neither.
    """
    n_classes, size = average[head].shape
    if any(messages.MOMENTS_SUM in update.said for update in updates.clients):
        counts = said_by_class(updates, messages.MOMENTS_COUNT, n_classes, rule)
        total = Moments(
            np.zeros(n_classes), np.zeros((n_classes, size)), np.zeros((n_classes, size, size))
        )
        for n, update in zip(counts, updates.clients, strict=True):
            sums = said_array(rule, update, messages.MOMENTS_SUM, "sums of the head's inputs",
                              (n_classes, size), "<f8")  # fmt: skip
            outer = said_array(rule, update, messages.MOMENTS_OUTER, "sums of outer products",
                               (n_classes, size, size), "<f8")  # fmt: skip
            total = total + Moments(n, sums, outer)
        return total
    if setting.model is None or setting.probe is None:
        needs = "needs a model and a probe, or class moments from every client"
        raise RuleError(rule, needs + hint(messages.MOMENTS_SUM))
    features, _ = probe_features(rule, average, setting, head)
    return moments_of(features, setting.probe.labels.numpy(), n_classes)


class _Kept(nn.Module):
    """The head, with what it was given."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.came: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        """Logits of the features."""
        self.came.append(features)
        logits: Tensor = self.head(features)
        return logits


@torch.no_grad()
def probe_features(
    rule: str, weights: Weights, setting: Setting, head: str, *, rows: int = 32
) -> tuple[Floats, Floats]:
    """What the head reads on the probe ``[n, D]``, and the logits ``[n, classes]``, float64.

    ``rows`` samples at a time: convolutions in float64 are slow on many.

    Raises
    ------
    RuleError
        If there is no model or probe, the weights do not fit, or the features are not ``[n, D]``
        and finite.
    """
    if setting.model is None or setting.probe is None or not len(setting.probe):
        raise RuleError(rule, "needs a model and a probe with samples")
    net = loaded(rule, setting.model, weights)
    name = head.rpartition(".")[0]
    outer, _, own = name.rpartition(".")
    kept = _Kept(net.get_submodule(name))
    if name:
        setattr(net.get_submodule(outer), own, kept)
    else:
        net = kept
    logits = torch.cat([net(part.double()) for part in torch.split(setting.probe.inputs, rows)])
    features = torch.cat(kept.came)
    n = len(setting.probe)
    if features.ndim != 2 or len(features) != n or logits.ndim != 2:
        raise RuleError(rule, f"needs a head that reads [{n}, D], it reads {tuple(features.shape)}")
    if not bool(features.isfinite().all()):
        raise RuleError(rule, "needs finite features; those of the probe hold NaN or infinity")
    return features.numpy(), logits.numpy()
