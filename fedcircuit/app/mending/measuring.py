"""What models of one round are worth: accuracy, recalls, and which clients' classes they keep."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
import torch
from torch import Tensor, nn

from fedcircuit.app.mending.known import Known
from fedcircuit.circuits.models import agree, fast_copy
from fedcircuit.learning import Weights, set_weights
from fedcircuit.learning.networks import head_layer
from fedcircuit.learning.training import Evaluation, evaluate
from fedcircuit.logits import inputs_for, logits_of
from fedcircuit.samples import Samples

LEARNED = 0.5  # recall from which a model counts as recognising a class, as in ValidityThresholds
_BODIES = 2  # whose features are kept: the recorded model's and the average's, which rules share
_ROWS = 100  # in one forward pass: the activations of more leave the processor's caches


@dataclass(frozen=True)
class Figures:
    """What a model is worth; the fields are those of `fedcircuit.app.mending.Measured`."""

    accuracy: float
    worst_recall: float
    recall: tuple[float, ...]
    kept: int
    learned: int


class Meter:
    """Measures the models of one round on the same samples.

    Models that differ in the head alone (many rules change nothing else) share one pass of their
    body; the same weights are measured once.

    Parameters
    ----------
    known
        Network and samples.
    clients
        Weights of the clients, whose recognised classes are to be kept.
    """

    def __init__(self, known: Known, clients: Sequence[Weights]) -> None:
        self._test, self._n_classes = known.test, len(known.class_names)
        self._pairs_on = known.test if known.probe is None else known.probe.checking
        self._model = fast_copy(known.model, known.test.inputs[:2]).eval()
        self._head = self._usable_head()
        self._seen: dict[str, Samples] = {}  # what the head reads of the test samples, by body
        self._found: dict[str, Figures] = {}
        self._pairs = [
            c
            for weights in clients
            for c, recall in enumerate(self._recalls(weights))
            if recall >= LEARNED
        ]

    def measured(self, weights: Weights) -> Figures:
        """What the model with these weights is worth."""
        key = digest(weights)
        if key not in self._found:
            self._found[key] = self._measured(weights)
        return self._found[key]

    def _measured(self, weights: Weights) -> Figures:
        found = self._evaluated(weights)
        recalls = found.recall if self._pairs_on is self._test else self._recalls(weights)
        defined = [value for value in found.recall if not isnan(value)]
        return Figures(
            found.accuracy,
            min(defined, default=nan),
            found.recall,
            sum(recalls[c] >= LEARNED for c in self._pairs),
            len(self._pairs),
        )

    def _recalls(self, weights: Weights) -> tuple[float, ...]:
        set_weights(self._model, weights)
        return self._of(self._model, self._pairs_on).recall

    def _evaluated(self, weights: Weights) -> Evaluation:
        set_weights(self._model, weights)
        if self._head is None:
            return self._of(self._model, self._test)
        start = f"{self._head}." if self._head else ""
        body = {k: v for k, v in weights.items() if k not in (f"{start}weight", f"{start}bias")}
        key = digest(body)
        seen = self._seen.get(key)
        if seen is None:
            seen = Samples(self._features(self._test.inputs), self._test.labels)
            if len(self._seen) < _BODIES:
                self._seen[key] = seen
        return self._of(self._model.get_submodule(self._head), seen)

    def _of(self, model: nn.Module, samples: Samples) -> Evaluation:
        return evaluate(model, samples, n_classes=self._n_classes, batch_size=_ROWS)

    @torch.no_grad()
    def _features(self, inputs: Tensor) -> Tensor:
        """What the head reads of inputs."""
        assert self._head is not None
        with _left_out(self._model, self._head) as body:
            return torch.cat([body(inputs_for(body, part)) for part in torch.split(inputs, _ROWS)])

    def _usable_head(self) -> str | None:
        """Name of the layer whose outputs are the logits; None where that is no one layer."""
        few = self._test.inputs[:2]
        name = head_layer(self._model, self._n_classes, few)
        if not name:  # there is none, or it is all that there is
            return None

        def logits() -> Tensor:
            with _left_out(self._model, name) as body:
                features = body(inputs_for(body, few))
            return logits_of(self._model.get_submodule(name), features)

        with torch.no_grad():
            return name if agree(logits, lambda: logits_of(self._model, few)) else None


@contextmanager
def _left_out(model: nn.Module, layer: str) -> Iterator[nn.Module]:
    """The model with a layer that gives what it is given."""
    outer, _, own = layer.rpartition(".")
    holder, kept = model.get_submodule(outer), model.get_submodule(layer)
    setattr(holder, own, nn.Identity())
    try:
        yield model
    finally:
        setattr(holder, own, kept)


def digest(weights: Weights) -> str:
    """The same for the same weights, bit for bit."""
    found = hashlib.sha256()
    for name, values in weights.items():
        found.update(f"{name} {values.dtype} {values.shape};".encode())
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()
