"""What models are worth: the same figures as by plain evaluation, with fewer passes."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedcircuit.app.mending.known import Known
from fedcircuit.app.mending.measuring import Meter, digest
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.learning.training.evaluation import evaluate
from fedcircuit.learning.weights import get_weights, set_weights
from fedcircuit.samples import Samples

NAMES = ("a", "b", "c")


class Counting(nn.Module):
    """A body that counts the samples that pass through it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.seen = nn.Conv2d(1, 4, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        out: Tensor = torch.relu(self.conv(x)).mean((2, 3))
        return out


class Scaled(nn.Module):
    """A head whose outputs are not the logits yet."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = Counting(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x)).roll(1, dims=1)
        return out


def plain() -> nn.Sequential:
    return nn.Sequential(Counting(), nn.Linear(4, 3))


def known_with(model: nn.Module, probe: Probe | None = None) -> Known:
    rng = torch.Generator().manual_seed(0)
    test = Samples(torch.randn(90, 1, 6, 6, generator=rng), torch.arange(90) % 3)
    return Known(model, probe, test, 90, NAMES, 0, None)


def redrawn(model: nn.Module, seed: int, part: str) -> dict[str, np.ndarray]:
    """The model's weights with all those of a part drawn anew."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=v.shape).astype(v.dtype) if part in name else v
        for name, v in get_weights(model).items()
    }


@pytest.mark.parametrize("build", [plain, Scaled])
def test_figures_are_those_of_plain_evaluation(build: type[nn.Module]) -> None:
    model = build()
    known = known_with(model)
    meter = Meter(known, [redrawn(model, 9, "")])
    for seed, part in enumerate(["conv", "1." if build is plain else "head", "", "weight"]):
        weights = redrawn(model, seed, part)
        found = meter.measured(weights)
        set_weights(model, weights)
        expected = evaluate(model, known.test, n_classes=3)
        assert found.accuracy == pytest.approx(expected.accuracy)
        assert found.recall == pytest.approx(expected.recall)
        assert found.worst_recall == pytest.approx(min(expected.recall))


def test_models_that_differ_in_the_head_alone_share_a_pass_of_the_body() -> None:
    model = plain()
    known = known_with(model)
    meter = Meter(known, [])
    body = meter._model[0]  # type: ignore[index]

    def passes(weights: dict[str, np.ndarray]) -> int:
        before = body.seen
        meter.measured(weights)
        return body.seen - before

    # 180: the test samples for the figures, and for the clients' classes, without a probe the same
    first = passes(redrawn(model, 0, ""))
    assert first == 90
    head_alone = {**redrawn(model, 0, ""), "1.bias": np.float32([3, 0, 0])}
    assert passes(head_alone) == 0
    assert passes(head_alone) == 0
    assert passes(redrawn(model, 1, "")) == 90


def test_what_clients_recognise_is_counted_on_the_checking_half() -> None:
    """Client 0 gives class a always, client 1 is right on a and b; the new model gives b always."""
    model = nn.Sequential(nn.Linear(3, 3))
    eye, zero = np.eye(3, dtype=np.float32), np.zeros((3, 3), np.float32)
    always = [{"0.weight": zero, "0.bias": eye[c]} for c in range(3)]
    able = {"0.weight": eye * np.float32([1, 1, 0]), "0.bias": np.float32([0, 0, -1])}
    half = Samples(torch.eye(3).repeat(2, 1), torch.arange(6) % 3)
    test = Samples(torch.eye(3), torch.arange(3))
    known = Known(model, Probe(half, half, NAMES), test, 3, NAMES, 0, None)
    found = Meter(known, [always[0], able]).measured(always[1])
    assert (found.kept, found.learned) == (1, 3)  # of a, a, b only b
    assert found.recall == (0.0, 1.0, 0.0)


def test_a_model_that_is_not_finite_is_worth_nothing_that_could_be_said() -> None:
    model = plain()
    weights = {**get_weights(model), "1.bias": np.float32([nan, 0, 0])}
    found = Meter(known_with(model), [get_weights(model)]).measured(weights)
    assert isnan(found.accuracy)
    assert isnan(found.worst_recall)
    assert found.kept == 0


def test_digests_tell_names_shapes_types_and_bits_apart() -> None:
    one = {"a": np.float32([0, 1])}
    others = ({"b": one["a"]}, {"a": one["a"][None]}, {"a": np.int32([0, 1065353216])},
              {"a": np.float32([-0.0, 1])})  # fmt: skip
    assert digest(one) == digest({"a": one["a"].copy()})
    assert len({digest(one), *map(digest, others)}) == 5
