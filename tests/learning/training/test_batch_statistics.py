"""Batch norm and mini-batches of one sample."""

import pytest
import torch
from torch import nn

from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.samples import Samples


def samples(n: int) -> Samples:
    inputs = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Samples(inputs, torch.arange(n) % 3)


def with_batch_norm(kind: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "pictures":
            return build_model("resnet", (1, 8, 8), 3, seed=0, widths=(4,))
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
        )


@pytest.mark.parametrize("kind", ["vectors", "pictures"])
@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 8}])
def test_with_batch_norm_the_one_sample_that_is_left_joins_a_mini_batch(
    kind: str, length: dict[str, int]
) -> None:
    model, data, sizes = with_batch_norm(kind), samples(65), []
    model.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))

    result = train_local(model, data, LocalTraining(batch_size=16, **length), n_classes=3, seed=0)

    assert sizes == [16, 16, 16, 17] * 2
    assert (result.steps, result.num_examples) == (8, 65)


def test_without_batch_norm_the_one_sample_that_is_left_is_a_mini_batch() -> None:
    assert (
        train_local(
            build_model("mlp", (1, 8, 8), 3, seed=0),
            samples(65),
            LocalTraining(batch_size=16),
            n_classes=3,
            seed=0,
        ).steps
        == 5
    )


@pytest.mark.parametrize(
    ("n", "size", "words"),
    [
        (1, 16, "at least two samples in training, this client has 1 .*leave it out"),
        (9, 1, "this client has 9 and batch_size is 1; use batch_size 2 or more"),
    ],
)
@pytest.mark.parametrize("length", [{"epochs": 1}, {"steps": 2}])
def test_batch_norm_without_two_samples_names_the_batch_size(
    n: int, size: int, words: str, length: dict[str, int]
) -> None:
    training = LocalTraining(batch_size=size, **length)

    with pytest.raises(ValueError, match=words):
        train_local(with_batch_norm("vectors"), samples(n), training, n_classes=3, seed=0)


def test_another_error_of_the_model_keeps_its_words() -> None:
    class Fussy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("no lines today")

    model = nn.Sequential(nn.BatchNorm2d(1), Fussy(8, 3))
    with pytest.raises(ValueError, match=r"^no lines today$"):
        train_local(model, samples(4), LocalTraining(), n_classes=3, seed=0)
