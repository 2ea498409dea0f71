"""Accuracy of the global model on held-out samples, after every aggregation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fedcircuit.circuits.models import copied
from fedcircuit.learning import Weights, set_weights
from fedcircuit.learning.training import Evaluation, evaluate
from fedcircuit.logits import not_finite_reason
from fedcircuit.records.rounds import (
    GLOBAL,
    NOT_FINITE_LOGITS,
    Cell,
    Failure,
    Observation,
    RoundView,
    Table,
)
from fedcircuit.samples import Samples

ALL_CLASSES = -1  # class index of the row over all classes


class EvaluationObserver:
    """Table ``accuracy``: model, class, recall, fpr, n, loss.

    The row of class -1 holds the accuracy (as its recall) and the loss over all samples.

    Parameters
    ----------
    model
        The architecture; it is copied.
    test
        Samples no client trains on and no probe holds.
    class_names
        Of all classes, those without samples included.
    clients
        Evaluate every client's model as well.

    Raises
    ------
    ValueError
        If there is no test sample.
    """

    name = "evaluation"
    needs_model = True

    def __init__(
        self, model: nn.Module, test: Samples, class_names: Sequence[str], *, clients: bool = False
    ) -> None:
        if not len(test):
            raise ValueError("the evaluation needs test samples, got none")
        self._model = copied(model)
        self._test = test
        self._n_classes = len(class_names)
        self._clients = clients

    def __call__(self, view: RoundView) -> Observation:
        """Recall and false positive rate of every class, accuracy and loss over all."""
        models = {GLOBAL: view.after}
        if self._clients:
            models |= {record.client: record.weights for record in view.clients}
        results = {name: self._evaluated(weights) for name, weights in models.items()}
        rows = [row for name, result in results.items() for row in self._rows(name, result)]
        columns = ("model", "class", "recall", "fpr", "n", "loss")
        failures = tuple(
            Failure(name, NOT_FINITE_LOGITS, not_finite_reason(result.not_finite, len(self._test)))
            for name, result in results.items()
            if result.not_finite
        )
        return Observation({"accuracy": Table(columns, tuple(rows))}, failures=failures)

    def _evaluated(self, weights: Weights) -> Evaluation:
        set_weights(self._model, weights)
        return evaluate(self._model, self._test, n_classes=self._n_classes)

    def _rows(self, name: str, result: Evaluation) -> list[tuple[Cell, ...]]:
        nan = float("nan")
        rows: list[tuple[Cell, ...]] = [
            (name, ALL_CLASSES, result.accuracy, nan, len(self._test), result.loss)
        ]
        rows += [
            (name, index, result.recall[index], result.fpr[index], result.counts[index], nan)
            for index in range(self._n_classes)
        ]
        return rows
