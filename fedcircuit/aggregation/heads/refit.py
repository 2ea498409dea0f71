"""The head fitted anew on virtual features drawn from class Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcircuit.aggregation import Floats
from fedcircuit.aggregation.heads.head import Head
from fedcircuit.aggregation.heads.moments import Moments
from fedcircuit.learning import Weights

_RIDGE = 1e-3  # added to every variance


@dataclass(frozen=True)
class Refit:
    """How the head is fitted anew.

    Parameters
    ----------
    per_class
        Virtual features of every class that has samples.
    epochs, batch_size, lr, momentum
        Of SGD on the cross entropy.
    """

    per_class: int = 100
    epochs: int = 30
    batch_size: int = 100
    lr: float = 0.05
    momentum: float = 0.9

    def __post_init__(self) -> None:
        for name in ("per_class", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not self.lr > 0.0:
            raise ValueError(f"lr must be > 0, got {self.lr}")
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")

    def rows(
        self, start: Floats, moments: Moments, seed: int, *, pull: Floats | None = None,
        bias: bool = True,
    ) -> Floats:  # fmt: skip
        """Head rows ``[classes, D + 1]`` after the fit; those of classes without samples stay.

        Parameters
        ----------
        start
            Rows to start from, biases last.
        moments
            Of the classes.
        seed
            Of features and batches.
        pull
            ``[classes, D + 1]`` >= 0: how strongly each entry is held at its start,
            ``pull (w - start)^2``.
        bias
            Whether the head has a bias.
        """
        rng = np.random.default_rng(seed)
        features, labels = virtual_features(moments, self.per_class, rng)
        present = moments.n > 0
        weights = start.astype(np.float64, copy=True)
        speed = np.zeros_like(weights)
        inputs = np.column_stack([features, np.full(len(features), float(bias))])
        targets = np.eye(len(start))[labels]
        for _ in range(self.epochs):
            order = rng.permutation(len(inputs))
            for first in range(0, len(order), self.batch_size):
                batch = order[first : first + self.batch_size]
                wrong = softmax(inputs[batch] @ weights.T) - targets[batch]
                gradient = wrong.T @ inputs[batch] / len(batch)
                if pull is not None:
                    gradient += 2.0 * pull * (weights - start)
                speed = self.momentum * speed + gradient
                weights[present] -= self.lr * speed[present]
        return weights


def virtual_features(
    moments: Moments, per_class: int, rng: np.random.Generator
) -> tuple[Floats, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Draws ``[n, D]`` from a Gaussian for every class with samples, and their classes ``[n]``.

    Where no class has a negative mean in any feature these are taken to come from a ReLU, and
    draws below 0 become 0.
    """
    means = moments.means
    rectified = bool((means[moments.n > 0] >= 0).all())
    parts, labels = [], []
    for index in np.flatnonzero(moments.n > 0):
        root = root_of(moments.covariance(int(index)))
        drawn = means[index] + rng.standard_normal((per_class, means.shape[1])) @ root.T
        parts.append(np.maximum(drawn, 0.0) if rectified else drawn)
        labels.append(np.full(per_class, index, dtype=np.int64))
    return np.concatenate(parts), np.concatenate(labels)


def root_of(covariance: Floats) -> Floats:
    """``[D, D]`` R with ``R R^T`` the covariance, its variances in every direction raised a little.

    Cholesky's, some twenty times faster than that of the eigenvectors, which is taken where the
    covariance has a variance below 0, by rounding: these count as 0.
    """
    raised = covariance.copy()
    raised.flat[:: len(raised) + 1] += _RIDGE
    try:
        return np.asarray(np.linalg.cholesky(raised), np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        root: Floats = vectors * np.sqrt(np.maximum(values, 0.0) + _RIDGE)
        return root


def softmax(logits: Floats) -> Floats:
    """Probabilities ``[n, classes]``."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=1, keepdims=True)
    return shares


def rows_of(weights: Weights, head: Head) -> Floats:
    """The head as ``[classes, D + 1]``, biases last, 0 where there are none."""
    weight = np.asarray(weights[head.weight], np.float64)
    bias = np.zeros(head.n_classes) if head.bias is None else weights[head.bias]
    return np.column_stack([weight, np.asarray(bias, np.float64)])


def tensors_of(rows: Floats, head: Head) -> dict[str, Floats]:
    """The inverse of :func:`rows_of`."""
    named = {head.weight: rows[:, :-1]}
    return named if head.bias is None else {**named, head.bias: rows[:, -1]}
