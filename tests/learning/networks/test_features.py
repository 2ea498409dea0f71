"""Linear layers watched for their latest call, whatever calls them and however it ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedcircuit.learning.networks import evaluating, last_call, linear_layers


class Twice(nn.Module):
    """The layer that is listed first is called last, by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(4, 2), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=self.body(x) ** 2)


def test_the_latest_call_is_named_with_what_it_took_and_gave() -> None:
    model, x = Twice(), torch.randn(5, 3)
    with last_call(linear_layers(model)) as seen:
        assert seen.name is None
        logits = model(x)
    assert seen.name == "head"
    assert torch.equal(seen.features("head"), model.body(x) ** 2)
    assert seen.given is logits
    assert seen.features("head").requires_grad


def test_without_graph_what_is_seen_is_detached() -> None:
    model = Twice()
    with last_call({"body": model.body}, graph=False) as seen:
        model(torch.randn(5, 3))
    assert seen.name == "body"
    assert seen.given is not None
    assert not seen.given.requires_grad
    assert not seen.features("body").requires_grad


def test_hooks_go_whatever_is_raised() -> None:
    model = Twice()
    with pytest.raises(RuntimeError), last_call(linear_layers(model)):
        model(torch.randn(5, 9))
    assert not any(module._forward_hooks for module in model.modules())


def test_modules_get_back_their_own_modes() -> None:
    model = nn.Sequential(nn.Dropout(), Twice()).train()
    model[0].eval()
    with pytest.raises(RuntimeError), evaluating(model):
        model(torch.randn(5, 9))
    assert [module.training for module in model] == [False, True]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
