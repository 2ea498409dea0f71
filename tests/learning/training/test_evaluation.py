"""Loss, accuracy and recall of a model on samples."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, log_loss
from test_local_training import mlp, samples

from fedcircuit.learning.training.evaluation import evaluate


def test_recall_and_fpr_equal_those_of_scikit_learn() -> None:
    model, data = mlp(), samples(90)
    with torch.no_grad():
        logits = model(data.inputs)
    matrix = confusion_matrix(data.labels, logits.argmax(1), labels=[0, 1, 2])

    result = evaluate(model, data, n_classes=3, batch_size=40)

    assert result.recall == pytest.approx(tuple(matrix.diagonal() / matrix.sum(1)))
    false = matrix.sum(0) - matrix.diagonal()
    assert result.fpr == pytest.approx(tuple(false / (90 - matrix.sum(1))))
    assert result.loss == pytest.approx(log_loss(data.labels, logits.softmax(1).numpy()), rel=1e-4)
    assert result.counts == tuple(matrix.sum(1))


def test_a_class_without_samples_has_undefined_recall() -> None:
    data = samples()

    result = evaluate(mlp(), data.take(data.labels != 1), n_classes=3)

    assert np.isnan(result.recall[1])
    assert not np.isnan(result.fpr[1])
