"""Fisher information of clients: closed forms, a plain loop, and that nothing is left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_rounds import sequential_cnn
from torch import nn
from torch.nn import functional
from toy_federation import N_CLASSES, N_INPUTS, bits, build_net, samples_of

from fedcircuit.learning import get_weights
from fedcircuit.learning.training import LocalTraining, train_local
from fedcircuit.learning.watching import diagonal_fisher
from fedcircuit.samples import Samples


def pictures(n: int = 7) -> Samples:
    generator = torch.Generator().manual_seed(1)
    return Samples(torch.randn(n, 1, 4, 4, generator=generator), torch.arange(n) % N_CLASSES)


def test_of_two_samples_by_hand() -> None:
    model = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    data = Samples(torch.tensor([[2.0], [6.0]]), torch.tensor([0, 0]))
    # both classes have 1/2: the gradient of row c is (1/2 - [c = 0]) x, so x^2 / 4: 1 and 9
    np.testing.assert_allclose(diagonal_fisher(model, data)["weight"], [[5.0], [5.0]])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.integers(1, 12))
def test_of_softmax_regression_it_is_the_closed_form(seed: int, n: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, x = nn.Linear(N_INPUTS, N_CLASSES), torch.randn(n, N_INPUTS)
    labels = (torch.arange(n) * 2) % N_CLASSES
    with torch.no_grad():
        errors = model(x).softmax(1) - functional.one_hot(labels, N_CLASSES)
    expected = (errors**2).T @ x**2 / n
    found = diagonal_fisher(model, Samples(x, labels))
    np.testing.assert_allclose(found["weight"], expected.numpy(), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(found["bias"], (errors**2).mean(0).numpy(), rtol=1e-4, atol=1e-9)


def test_of_a_network_with_batch_norm_it_is_a_plain_loop_over_samples() -> None:
    model, data = sequential_cnn(), pictures()
    model.train()
    for _ in range(3):
        model(data.inputs)  # running statistics of their own
    model[0][0].bias.requires_grad_(False)  # type: ignore[index, union-attr]
    before = bits(get_weights(model))
    found = diagonal_fisher(model, data)
    assert bits(get_weights(model)) == before
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert "0.0.bias" not in found
    model.eval()
    squares = {name: torch.zeros(p.shape) for name, p in model.named_parameters()}
    for image, label in zip(data.inputs, data.labels, strict=True):
        model.zero_grad()
        (-model(image[None]).log_softmax(1)[0, label]).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                squares[name] += parameter.grad**2
    for name, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, squares[name] / len(data), rtol=1e-4, atol=1e-10)


def test_training_measures_it_at_the_end_and_trains_alike_without() -> None:
    both = [build_net(), build_net()]
    results = [
        train_local(model, samples_of(1), LocalTraining(batch_size=8, fisher=on, optimizer="adam"),
                    n_classes=N_CLASSES, seed=3)
        for model, on in zip(both, (True, False), strict=True)
    ]  # fmt: skip
    assert bits(get_weights(both[0])) == bits(get_weights(both[1]))
    assert bits(results[0].fisher) == bits(diagonal_fisher(both[1], samples_of(1)))
    assert results[1].fisher == {}


def test_a_weight_that_no_sample_reaches_has_none() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(N_INPUTS, N_CLASSES), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    with torch.no_grad():  # wherever it is called
        found = diagonal_fisher(Idle(), samples_of(1))
    assert not found["idle.weight"].any()
    assert found["used.weight"].min() > 0


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_it_is_never_negative(name: str) -> None:
    assert diagonal_fisher(nn.Linear(N_INPUTS, N_CLASSES), samples_of(0))[name].min() >= 0
