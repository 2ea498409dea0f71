import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, log_loss
from torch import nn

from fedcircuit.learning.weights import get_weights
from fedcircuit.observers.evaluation import EvaluationObserver
from fedcircuit.records.rounds.round_record import ClientRecord, RoundView
from fedcircuit.samples import Samples

NAMES = ("a", "b", "c", "d")
TEST = Samples(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4))


def view(*clients: int) -> RoundView:
    records = tuple(ClientRecord(str(c), 10, get_weights(network(c))) for c in clients)
    return RoundView(1, get_weights(network(100)), get_weights(network(101)), records)


def test_the_averaged_model_is_evaluated_class_by_class() -> None:
    observation = EvaluationObserver(network(0), TEST, NAMES)(view(1, 2))
    table = observation.tables["accuracy"]
    assert table.columns == ("model", "class", "recall", "fpr", "n", "loss")
    rows = {row[1]: row for row in table.rows}
    assert list(rows) == [-1, 0, 1, 2, 3]
    assert {row[0] for row in table.rows} == {"global"}
    with torch.no_grad():
        logits = network(101).eval()(TEST.inputs)
    confusion = confusion_matrix(TEST.labels, logits.argmax(1), labels=range(4))
    assert rows[-1][2] == pytest.approx(np.trace(confusion) / 40)
    assert rows[-1][5] == pytest.approx(
        log_loss(TEST.labels, logits.double().softmax(1), labels=range(4)), rel=1e-5
    )
    assert rows[1][2] == pytest.approx(confusion[1, 1] / 13)
    assert rows[1][3] == pytest.approx((confusion[:, 1].sum() - confusion[1, 1]) / 27)
    assert (rows[0][4], rows[1][4], rows[3][4], rows[-1][4]) == (14, 13, 0, 40)
    assert math.isnan(rows[3][2])  # no sample of class d
    assert math.isnan(rows[1][5])
    assert math.isnan(rows[-1][3])


def test_clients_are_evaluated_on_request() -> None:
    observer = EvaluationObserver(network(0), TEST, NAMES, clients=True)
    rows = observer(view(2, 1)).tables["accuracy"].rows
    assert [row[0] for row in rows[::5]] == ["global", "2", "1"]
    with torch.no_grad():
        right = network(1).eval()(TEST.inputs).argmax(1) == TEST.labels
    assert rows[10][2] == pytest.approx(right.double().mean().item())


def test_the_model_given_is_left_alone() -> None:
    model = network(0)
    before = get_weights(model)
    EvaluationObserver(model, TEST, NAMES)(view())
    assert all(np.array_equal(value, before[name]) for name, value in get_weights(model).items())


def test_no_test_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="needs test samples"):
        EvaluationObserver(network(0), TEST.take(torch.zeros(0, dtype=torch.int64)), NAMES)
