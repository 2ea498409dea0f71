"""Class moments of what the head reads: by hand, and those of parts add up to those of all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_rounds import sequential_cnn
from torch import Tensor, nn
from toy_federation import N_CLASSES, bits, build_net, samples_of

from fedcircuit.learning import get_weights
from fedcircuit.learning.watching import class_moments
from fedcircuit.samples import Samples


def test_of_three_samples_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        model[0].bias.zero_()
    data = Samples(
        torch.tensor([[1.0, -2.0], [3.0, 5.0], [2.0, -1.0]]), torch.tensor([2, 0, 2])
    )  # features (1, 2), (3, 0), (2, 1)
    found = class_moments(model, data, n_classes=3)
    assert found.counts.tolist() == [1, 0, 2]
    assert found.sums.tolist() == [[3, 0], [0, 0], [3, 3]]
    assert found.outer.tolist() == [
        [[9, 0], [0, 0]], [[0, 0], [0, 0]], [[1 + 4, 2 + 2], [2 + 2, 4 + 1]]
    ]  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=12, max_size=40), st.integers(1, 9))
def test_those_of_clients_add_up_to_those_of_their_pooled_data(who: list[int], size: int) -> None:
    net, n = build_net(), len(who)
    pooled = samples_of(3, n).take(torch.arange(n))
    whole = class_moments(net, pooled, n_classes=N_CLASSES)
    parts = [
        class_moments(
            net, pooled.take(torch.tensor(who) == k), n_classes=N_CLASSES, batch_size=size
        )
        for k in sorted(set(who))
    ]
    for name in ("counts", "sums", "outer"):
        total = torch.stack([getattr(part, name) for part in parts]).sum(0)
        torch.testing.assert_close(total, getattr(whole, name), rtol=1e-6, atol=1e-6)


def test_they_are_numpy_s_of_features_in_eval_mode_and_leave_no_trace() -> None:
    net, data = sequential_cnn(), Samples(torch.randn(11, 1, 4, 4), torch.arange(11) % N_CLASSES)
    net.train()
    before = bits(get_weights(net))
    found = class_moments(net, data, n_classes=N_CLASSES, batch_size=4)
    assert bits(get_weights(net)) == before
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())
    with torch.no_grad():
        features = net[:-1].eval()(data.inputs).double().numpy()  # type: ignore[index]
    own = features[data.labels.numpy() == 1]
    np.testing.assert_allclose(found.sums[1], own.sum(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.outer[1], own.T @ own, rtol=1e-5, atol=1e-9)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.reshape(len(x), 2, 3)).mean(1)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Linear(6, 5)), r"class_moments needs a last linear layer with 3 outputs"),
        (Tokens(), r"one row of features a sample, \[\d+, features\], got \(\d+, 2, 3\)"),
    ],
)
def test_models_whose_features_cannot_be_read_are_refused(model: nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        class_moments(model, samples_of(0), n_classes=N_CLASSES)


def test_features_that_are_not_finite_are_refused() -> None:
    net = build_net()
    with torch.no_grad():
        net[0].weight[0] = torch.nan  # type: ignore[index]
    with pytest.raises(ValueError, match="class_moments needs finite features"):
        class_moments(net, samples_of(0), n_classes=N_CLASSES)
