"""FedDecorr: the penalty by hand and by NumPy, where features are found, and what it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.training.decorrelation import decorrelation, penultimate
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.logits import logits_of
from fedcircuit.samples import Samples


def features(seed: int, n: int, d: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 5.0], [-1.0, 3.0]], 1.0),  # both move together: all four correlations are 1
        ([[1.0, -2.0], [-1.0, 2.0]], 1.0),  # against each other: -1 counts as much
        ([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], 0.5),  # the identity: 2 of 4
        ([[1.0, 7.0], [-1.0, 7.0]], 0.25),  # a constant: one correlation of four
        # of (1, 2, 3) and (1, 3, 2): 1/2; (1 + 1 + 2 / 4) / 4
        ([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0]], 0.625),
        ([[3.0, 4.0]], 0.0),  # one sample has no correlations
    ],
)
def test_the_penalty_is_the_mean_squared_correlation(
    rows: list[list[float]], expected: float
) -> None:
    found = decorrelation(torch.tensor(rows, dtype=torch.float64))
    assert float(found) == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 99), st.integers(4, 9), st.integers(1, 9))
def test_it_is_what_numpy_makes_of_the_correlation_matrix(seed: int, n: int, d: int) -> None:
    x = features(seed, n, d)
    matrix = np.atleast_2d(np.corrcoef(x.numpy(), rowvar=False))
    found = float(decorrelation(x))
    assert found == pytest.approx(np.square(matrix).mean(), rel=1e-4)
    assert 1 / d - 1e-4 <= found <= 1 + 1e-9


@given(st.integers(0, 99), st.floats(0.5, 9), st.floats(-5, 5))
def test_neither_order_nor_scale_nor_shift_of_features_matters(
    seed: int, scale: float, shift: float
) -> None:
    x = features(seed, 6, 4)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    found = decorrelation(-x[:, order] * scale + shift)
    assert float(found) == pytest.approx(float(decorrelation(x)), rel=1e-4)


def test_a_constant_feature_gets_a_finite_gradient() -> None:
    x = features(0, 5, 3)
    x[:, 1] = 2.0
    x.requires_grad_()
    decorrelation(x).backward()
    assert bool(x.grad.isfinite().all())
    assert float(x.grad[:, 0].abs().sum()) > 0


def test_anything_but_a_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"features must be \[n, d\], got shape \(2, 3, 4\)"):
        decorrelation(torch.zeros(2, 3, 4))


class OneLogit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(4, 1), nn.Linear(3, 4)  # not in the order of use

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.body(x))).flatten()


def test_features_are_what_the_last_linear_layer_takes_whatever_its_name() -> None:
    model, x = OneLogit(), torch.randn(5, 3)
    with penultimate(model) as seen:
        found = seen.features(logits_of(model, x))
    assert torch.equal(found, torch.tanh(model.body(x)))
    assert found.requires_grad
    assert not model.head._forward_hooks


class Behind(nn.Sequential):
    """Something stands behind the last linear layer."""


@pytest.mark.parametrize(
    "model",
    [
        Behind(nn.Linear(3, 2), nn.Softmax(1)),
        nn.Sequential(nn.Unflatten(1, (3, 1)), nn.Conv1d(3, 2, 1), nn.Flatten()),
        Behind(nn.Linear(3, 2), nn.BatchNorm1d(2)),
    ],
)
def test_a_model_whose_logits_no_linear_layer_gives_is_refused(model: nn.Module) -> None:
    data = Samples(torch.randn(6, 3), torch.tensor([0, 1] * 3))
    with pytest.raises(ValueError, match="not the output of a linear layer on"):
        train_local(model, data, LocalTraining(feddecorr_beta=0.1), n_classes=2, seed=0)
    assert not any(module._forward_hooks for module in model.modules())


def hidden_of(model: nn.Module, data: Samples) -> torch.Tensor:
    return nn.Sequential(*list(model)[:-1])(data.inputs)  # type: ignore[call-overload]


def federated_client(beta: float) -> tuple[nn.Module, Samples]:
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(80) % 2  # two of four classes: features collapse
    centres = torch.randn(2, 12, generator=generator)
    data = Samples(centres[labels] + 0.3 * torch.randn(80, 12, generator=generator), labels)
    model = build_model("mlp", (12,), 4, seed=1, widths=(8,), activation="tanh")
    training = LocalTraining(epochs=15, batch_size=20, lr=0.2, feddecorr_beta=beta)
    train_local(model, data, training, n_classes=4, seed=2)
    return model, data


def test_training_with_the_penalty_leaves_features_less_correlated() -> None:
    measured = []
    for beta in (0.0, 2.0):
        model, data = federated_client(beta)
        with torch.no_grad():
            measured.append(float(decorrelation(hidden_of(model, data))))
            assert (model(data.inputs).argmax(1) == data.labels).float().mean() > 0.9
    assert measured[1] < 0.8 * measured[0]


def test_one_step_follows_the_gradient_of_loss_and_penalty() -> None:
    data = Samples(torch.randn(9, 5, generator=torch.Generator().manual_seed(0)),
                   torch.arange(9) % 3)  # fmt: skip
    model, expected = (build_model("mlp", (5,), 3, seed=0, widths=(4,)) for _ in range(2))
    hidden = hidden_of(expected, data)
    logits = expected[-1](hidden)
    matrix = torch.corrcoef(hidden.T).nan_to_num()  # a unit that is dead has no correlations
    loss = nn.functional.cross_entropy(logits, data.labels) + 0.7 * matrix.square().mean()
    gradients = torch.autograd.grad(loss, list(expected.parameters()))
    training = LocalTraining(batch_size=9, lr=0.5, feddecorr_beta=0.7)
    result = train_local(model, data, training, n_classes=3, seed=0)
    for ours, was, gradient in zip(
        model.parameters(), expected.parameters(), gradients, strict=True
    ):
        assert torch.allclose(ours, was - 0.5 * gradient, atol=1e-4)
    # what is reported as the loss is the objective alone
    plain = nn.functional.cross_entropy(logits, data.labels)
    assert result.loss == pytest.approx(float(plain.detach()), rel=1e-5)


def test_no_penalty_is_plain_training_bit_for_bit() -> None:
    data = Samples(torch.randn(9, 5), torch.arange(9) % 3)
    models = [build_model("mlp", (5,), 3, seed=0, widths=(4,)) for _ in range(2)]
    for model, beta in zip(models, ({}, {"feddecorr_beta": 0.0}), strict=True):
        train_local(model, data, LocalTraining(**beta), n_classes=3, seed=0)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
