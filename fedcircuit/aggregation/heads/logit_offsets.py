"""Logit offsets: one number a class, fitted on the probe, added to the head's biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedcircuit.aggregation import NO_STATE, Floats, RuleError, Setting, State, Updates, result
from fedcircuit.aggregation.heads.head import find_head
from fedcircuit.aggregation.heads.moments import probe_features
from fedcircuit.aggregation.heads.refit import softmax
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class LogitOffsets:
    """Class offsets that minimise the class-balanced cross entropy on the probe.

    ``mean over classes of the mean over their samples of CE(z + b) + ridge / 2 |b|^2``: convex, so
    the result is the minimum. Classes without samples in the probe keep their bias. All other
    weights stay as they are.

    Parameters
    ----------
    ridge
        > 0; keeps offsets finite where a class is always right.

    Raises
    ------
    ValueError
        If the ridge is not > 0.
    """

    name: ClassVar[str] = "logit-offsets"

    ridge: float = 1e-3

    def __post_init__(self) -> None:
        if not self.ridge > 0.0:
            raise ValueError(f"ridge must be > 0, got {self.ridge}")

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with other biases of the head; needs a model and a probe."""
        head = find_head(updates.before, setting, self.name)
        if head.bias is None:
            raise RuleError(self.name, f"needs a head with a bias; {head.weight!r} has none")
        _, logits = probe_features(self.name, average, setting, head.weight)
        if logits.shape[1] != len(average[head.bias]):
            raise RuleError(self.name, f"needs {head.bias!r} to be the biases of the logits")
        assert setting.probe is not None  # probe_features has refused the rest
        labels = setting.probe.labels.numpy()
        if labels.min() < 0 or labels.max() >= logits.shape[1]:
            raise RuleError(self.name, f"needs labels of the probe below {logits.shape[1]} classes")
        offsets = fitted_offsets(logits, labels, self.ridge)
        bias = np.asarray(average[head.bias], np.float64) + offsets
        return result(average, {head.bias: bias}), NO_STATE


def fitted_offsets(logits: Floats, labels: Floats, ridge: float) -> Floats:
    """Offsets ``[classes]``, 0 of absent classes, for logits ``[n, classes]``, labels ``[n]``."""
    from scipy.optimize import minimize  # takes half a second

    n_classes = logits.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    present = counts > 0
    weight = 1.0 / (counts[labels] * present.sum())
    targets = np.eye(n_classes)[labels]

    def loss(free: Floats) -> tuple[float, Floats]:
        offsets = np.zeros(n_classes)
        offsets[present] = free
        moved = logits + offsets
        top = moved.max(axis=1, keepdims=True)
        total = np.log(np.exp(moved - top).sum(axis=1)) + top[:, 0]
        value = weight @ (total - moved[np.arange(len(labels)), labels]) + ridge / 2 * free @ free
        gradient = weight @ (softmax(moved) - targets)
        return float(value), gradient[present] + ridge * free

    found = minimize(loss, np.zeros(int(present.sum())), jac=True, method="L-BFGS-B")
    offsets = np.zeros(n_classes)
    offsets[present] = found.x
    return offsets
