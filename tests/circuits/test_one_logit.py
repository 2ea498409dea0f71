"""A binary classifier with one logit is one with the logits 0 and z."""

import copy

import numpy as np
import pytest
import torch
from kinds_of_models import BINARY, Around, X, Y, network, short
from torch import Tensor, nn

from fedcircuit import CircuitSettings, Probe, Samples, discover
from fedcircuit.circuits.clock import Clock
from fedcircuit.circuits.discovery import METHOD_NAMES
from fedcircuit.circuits.edges import edge_circuits
from fedcircuit.circuits.model_circuits import Search
from fedcircuit.circuits.preservation import RoundTask, analyse_round
from fedcircuit.circuits.together import common_layers


def as_two(one: nn.Sequential) -> nn.Sequential:
    """The same function with the logits 0 and z."""
    two = copy.deepcopy(one)
    head = one[-1]
    two[-1] = nn.Linear(head.in_features, 2)
    with torch.no_grad():
        two[-1].weight.copy_(torch.cat([torch.zeros_like(head.weight), head.weight]))
        two[-1].bias.copy_(torch.cat([torch.zeros_like(head.bias), head.bias]))
    return two


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_one_logit_has_the_circuits_of_two(method: str) -> None:
    one = network(1)
    found = discover(one, (X, BINARY), method=short(method))
    other = discover(as_two(one), (X, BINARY), method=short(method))
    assert torch.equal(found.masks, other.masks)
    assert torch.allclose(found.scores, other.scores, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("conv", [False, True])
def test_a_round_of_models_with_one_logit_is_judged_as_with_two(conv: bool) -> None:
    one = network(1, conv=conv)
    results = []
    for model in (one, as_two(one)):
        weights = {name: np.asarray(v) for name, v in model.state_dict().items()}
        probe = Probe.split(Samples(X, BINARY), ["no", "yes"], 0)
        task = RoundTask(CircuitSettings(), 0, 1)
        results.append(analyse_round(model, weights, {"a": weights}, probe, task))
    first, second = results
    for mine, other in zip(first.models, second.models, strict=True):
        assert torch.equal(mine.masks, other.masks)
        assert [v.status for v in mine.validity] == [v.status for v in other.validity]
        recalls = ([v.full_recall for v in part.validity] for part in (mine, other))
        assert next(recalls) == next(recalls)
    assert first.comparisons["a"].verdicts == second.comparisons["a"].verdicts


def test_linear_models_with_one_logit_are_examined_together() -> None:
    one = network(1, conv=False)
    probe = Probe.split(Samples(X, BINARY), ["no", "yes"], 0)
    search = Search.of(one, probe, CircuitSettings(), 0, 0, Clock())
    weights = {name: np.asarray(v) for name, v in one.state_dict().items()}
    assert common_layers(search, one, weights) is not None


def test_one_logit_may_lose_its_axis_and_may_not_be_a_probability() -> None:
    one = network(1)
    expected = discover(one, (X, BINARY)).masks
    for end in (Tensor.squeeze, lambda z: z[:, 0], lambda z: {"logits": z}):
        assert torch.equal(discover(Around(one, end), (X, BINARY)).masks, expected)
    assert edge_circuits(Around(one, Tensor.squeeze), (X, BINARY)).masks.shape[0] == 2
    for end in (torch.sigmoid, lambda z: torch.sigmoid(z).squeeze(1)):
        with pytest.raises(ValueError, match="ends in a sigmoid: .*BCEWithLogitsLoss"):
            discover(Around(one, end), (X, BINARY))
    with pytest.raises(ValueError, match="ends in a sigmoid"):
        discover(nn.Sequential(one, nn.Sigmoid()), (X, BINARY))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1"):
        discover(one, (X, Y))
