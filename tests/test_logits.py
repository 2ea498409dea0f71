"""What a model gives is understood in one way, and what is not finite is no class."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.learning.training.evaluation import evaluate
from fedcircuit.logits import (
    LogitsError,
    NotFiniteError,
    as_logits,
    logits_of,
    n_not_finite,
    predicted,
    require_finite,
)
from fedcircuit.samples import Samples

TWO = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 0.1]])


@pytest.mark.parametrize(
    "output",
    [TWO, {"logits": TWO, "loss": None}, SimpleNamespace(logits=TWO, hidden=TWO[:, :1])],
    ids=["tensor", "mapping", "object"],
)
def test_logits_are_a_tensor_or_the_field_of_that_name(output: object) -> None:
    assert torch.equal(as_logits(output, 2), TWO)


@pytest.mark.parametrize("shape", [(3, 1), (3,)])
def test_one_logit_is_the_two_logits_zero_and_z(shape: tuple[int, ...]) -> None:
    z = torch.tensor([-2.0, 0.5, 3.0])

    found = as_logits(z.reshape(shape), 3)

    assert found.tolist() == [[0.0, -2.0], [0.0, 0.5], [0.0, 3.0]]
    labels = torch.tensor([1, 0, 1])
    binary = functional.binary_cross_entropy_with_logits(z, labels.float())
    assert torch.allclose(functional.cross_entropy(found, labels), binary)
    assert predicted(found).tolist() == [0, 1, 1]


def test_one_sample_may_lose_its_axis() -> None:
    assert as_logits(torch.tensor(4.0), 1).tolist() == [[0.0, 4.0]]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ((TWO, TWO), "got tuple; wrap it"),
        ({"out": TWO}, "got dict; wrap it"),
        (TWO.argmax(1), r"\(2,\) int64 .*return the logits themselves"),
        (TWO[..., None, None].expand(-1, -1, 4, 4), r"\(2, 3, 4, 4\).* every position.*mean"),
        (TWO[:, None], r"\(2, 1, 3\) .*axes of size 1: .flatten\(1\)"),
        (TWO[..., None, None], r"\(2, 3, 1, 1\) .*axes of size 1: .flatten\(1\)"),
        (TWO[:, None].expand(-1, 5, -1), r"\(2, 5, 3\).*.mean\(1\) of \[n, positions, classes\]"),
        (TWO.to(torch.complex64), r"complex64 .*return real numbers, such as .real"),
        (TWO[0], r"it gave \(3,\) float32 for 2 samples"),
    ],
    ids=[
        "tuple",
        "other mapping",
        "classes",
        "map",
        "one position",
        "map of one",
        "positions",
        "complex",
        "one row",
    ],
)
def test_anything_else_is_refused_in_words(output: object, words: str) -> None:
    with pytest.raises(LogitsError, match=words):
        as_logits(output, 2, "Net")


def test_inputs_take_the_type_of_the_model_and_tokens_stay_integers() -> None:
    double = nn.Linear(3, 2).double()
    assert logits_of(double, torch.ones(4, 3)).dtype == torch.float64

    tokens = nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(4, 2))
    assert logits_of(tokens, torch.tensor([[1, 4]])).shape == (1, 2)


def test_a_row_that_is_not_finite_is_no_class() -> None:
    logits = torch.stack([TWO[0], TWO[0], TWO[0], TWO[1]])
    logits[0, 0], logits[1, 2], logits[2, 1] = torch.nan, torch.inf, -torch.inf

    assert predicted(logits).tolist() == [-1, -1, -1, 1]
    assert n_not_finite(logits) == 3


class Overflows(nn.Module):
    """Divides by its input: infinite where that is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 / x


def test_a_model_without_finite_logits_is_told_from_one_that_predicts_class_0() -> None:
    inputs = torch.ones(6, 3)
    inputs[[1, 4], 0] = 0.0
    samples = Samples(inputs, torch.zeros(6, dtype=torch.int64))

    with pytest.raises(NotFiniteError, match="NaN or infinite for 2 of 6 samples") as raised:
        require_finite(Overflows(), inputs, rows=4)
    found = evaluate(Overflows(), samples, n_classes=3, batch_size=4)

    assert (raised.value.bad, raised.value.n) == (2, 6)
    assert found.not_finite == 2
    assert found.counts == (6, 0, 0)
    measured = torch.tensor([found.accuracy, found.loss, *found.recall, *found.fpr])
    assert measured.isnan().all()
    fine = evaluate(Overflows(), samples.take(torch.tensor([0, 2])), n_classes=3)
    assert (fine.not_finite, fine.accuracy) == (0, 1.0)
