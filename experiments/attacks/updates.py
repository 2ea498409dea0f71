"""What a server sees of its clients without circuits, recorded round by round."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcircuit import Probe, Samples
from fedcircuit.learning import Weights, set_weights
from fedcircuit.learning.training import evaluate
from fedcircuit.records.rounds import Observation, RoundView, Table

COLUMNS = ("client", "norm", "cosine", "zeros", "probe_accuracy")


class UpdateObserver:
    """Table ``updates``: a row a client, with the columns of `COLUMNS`.

    ``norm`` is the length of the update, ``cosine`` its cosine with the median of all clients'
    updates, number by number; ``zeros`` the share of the sent numbers that are exactly 0, and
    ``probe_accuracy`` that of the client's model on the whole probe. Undefined is NaN.

    Parameters
    ----------
    model
        The architecture; it is copied.
    probe
        The samples that circuits are found and checked on.
    """

    name = "updates"

    def __init__(self, model: nn.Module, probe: Probe) -> None:
        self._model = copy.deepcopy(model)
        halves = (probe.discovery, probe.checking)
        self._samples = Samples(
            torch.cat([half.inputs for half in halves]), torch.cat([half.labels for half in halves])
        )
        self._n_classes = probe.n_classes

    def __call__(self, view: RoundView) -> Observation:
        """The table of this round."""
        if not view.clients:
            return Observation({"updates": Table(COLUMNS)})
        sent = [flat(record.weights) for record in view.clients]
        updates = np.stack(sent) - flat(view.before)
        middle = np.median(updates, axis=0)
        rows = tuple(
            (
                record.client,
                float(np.linalg.norm(update)),
                cosine(update, middle),
                float((weights == 0).mean()),
                self._accuracy(record.weights),
            )
            for record, weights, update in zip(view.clients, sent, updates, strict=True)
        )
        return Observation({"updates": Table(COLUMNS, rows)})

    def _accuracy(self, weights: Weights) -> float:
        set_weights(self._model, weights)
        return evaluate(self._model, self._samples, n_classes=self._n_classes).accuracy


def flat(weights: Weights) -> NDArray[np.float64]:
    """All numbers of the floating point tensors, in their order."""
    parts = [v.ravel() for v in weights.values() if np.issubdtype(v.dtype, np.floating)]
    return np.concatenate(parts).astype(np.float64)


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Cosine of the angle between two vectors; NaN where one has no length."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else float("nan")
