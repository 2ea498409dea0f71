"""Local objectives: their formulas by hand, absent classes, and training with them."""

from __future__ import annotations

from math import e, exp, inf, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.learning.training.objectives import FedLC, FedRS, LogitAdjustment, Objective
from fedcircuit.samples import Samples

LOGITS = torch.tensor([[1.0, 2.0, 3.0], [0.5, -0.5, 4.0]])
LABELS = torch.tensor([0, 1])
COUNTS = torch.tensor([16, 1, 0])
ZERO = [FedLC(0.0), LogitAdjustment(0.0), FedRS("binary", 1.0)]


def numbers(draw: st.DrawFn, n: int, classes: int) -> torch.Tensor:
    values = st.floats(-20, 20, width=32)
    rows = draw(st.lists(values, min_size=n * classes, max_size=n * classes))
    return torch.tensor(rows).reshape(n, classes)


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels, and counts of a client that holds all labels and perhaps others."""
    classes, n = draw(st.integers(2, 5)), draw(st.integers(1, 6))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    more = draw(st.lists(st.integers(0, 30), min_size=classes, max_size=classes))
    counts = torch.bincount(torch.tensor(labels), minlength=classes) + torch.tensor(more)
    return numbers(draw, n, classes), torch.tensor(labels), counts


def test_fedlc_takes_tau_over_the_fourth_root_of_the_count_from_every_logit() -> None:
    # 16 ** -0.25 = 0.5 and 1 ** -0.25 = 1: margins 1 and 2; class 2 is left out
    assert FedLC(2.0).offsets(COUNTS).tolist() == [-1.0, -2.0, -inf]
    first = -log(exp(1 - 1) / (exp(1 - 1) + exp(2 - 2)))
    second = -log(exp(-0.5 - 2) / (exp(0.5 - 1) + exp(-0.5 - 2)))
    loss = FedLC(2.0)(LOGITS, LABELS, COUNTS)
    assert float(loss) == pytest.approx((first + second) / 2)
    assert first == pytest.approx(log(2))


def test_logit_adjustment_adds_tau_times_the_log_of_the_label_share() -> None:
    counts = torch.tensor([6, 2, 0])
    assert LogitAdjustment(2.0).offsets(counts).tolist() == pytest.approx(
        [2 * log(0.75), 2 * log(0.25), -inf]
    )
    # softmax of z + 2 log pi: e^z pi^2
    first = -log(e * 0.5625 / (e * 0.5625 + e**2 * 0.0625))
    second = -log(exp(-0.5) * 0.0625 / (exp(0.5) * 0.5625 + exp(-0.5) * 0.0625))
    loss = LogitAdjustment(2.0)(LOGITS, LABELS, counts)
    assert float(loss) == pytest.approx((first + second) / 2)


def test_balanced_softmax_is_logit_adjustment_with_tau_one() -> None:
    """Independently: e^z weighted by counts (Ren et al. 2020, arXiv 2007.10740)."""
    counts = torch.tensor([5, 3, 2])
    weighted = LOGITS.double().exp() * counts
    expected = -torch.log(weighted[range(2), LABELS] / weighted.sum(1)).mean()
    assert float(LogitAdjustment()(LOGITS, LABELS, counts)) == pytest.approx(float(expected))


def test_fedrs_is_cross_entropy_of_scaled_logits() -> None:
    loss = FedRS("binary", 0.5)(LOGITS, LABELS, COUNTS)
    scaled = torch.tensor([[1.0, 2.0, 1.5], [0.5, -0.5, 2.0]])
    assert torch.equal(loss, functional.cross_entropy(scaled, LABELS))


@pytest.mark.parametrize("objective", ZERO)
@given(batch=batches())
def test_without_strength_it_is_plain_cross_entropy_bit_for_bit(
    objective: Objective, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    logits, labels, counts = batch
    assert torch.equal(objective(logits, labels, counts), functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("rule", [FedLC(0.7), LogitAdjustment(1.3)])
@given(batch=batches(), shift=st.floats(-5, 5))
def test_only_differences_of_logits_count_and_even_counts_change_nothing(
    rule: Objective, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], shift: float
) -> None:
    logits, labels, counts = batch
    logits = logits.double()
    loss = rule(logits, labels, counts)
    assert torch.allclose(loss, rule(logits + shift, labels, counts), atol=1e-9)
    even = torch.full_like(counts, 7)
    assert torch.allclose(
        rule(logits, labels, even), functional.cross_entropy(logits, labels), atol=1e-9
    )


@pytest.mark.parametrize("rule", [FedLC(0.7), LogitAdjustment(1.3)])
@given(batch=batches())
def test_an_absent_class_has_no_part_in_the_loss_and_gets_no_gradient(
    rule: Objective, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    logits, labels, counts = batch
    logits = logits.double().requires_grad_()
    loss = rule(logits, labels, counts)
    loss.backward()
    held = counts > 0
    assert bool(loss.isfinite())
    assert bool((logits.grad[:, ~held] == 0).all())
    assert bool(logits.grad.isfinite().all())
    # the loss of a task that has the held classes alone
    place = torch.cumsum(held, 0) - 1
    alone = rule(logits.detach()[:, held], place[labels], counts[held])
    assert torch.allclose(loss.detach(), alone, atol=1e-9)


def test_a_rare_class_must_win_by_a_margin() -> None:
    logits, counts = torch.zeros(1, 2), torch.tensor([100, 1])
    for rule in (FedLC(1.0), LogitAdjustment(1.0)):
        rare, frequent = (float(rule(logits, torch.tensor([c]), counts)) for c in (1, 0))
        assert rare > log(2) > frequent


@pytest.mark.parametrize("kind", [FedLC, LogitAdjustment])
@pytest.mark.parametrize("tau", [-0.1, float("nan"), inf])
def test_a_tau_out_of_range_is_refused(kind: type[FedLC], tau: float) -> None:
    with pytest.raises(ValueError, match="tau of .* must be a finite number >= 0, got"):
        kind(tau)


@pytest.mark.parametrize("objective", [FedLC(), LogitAdjustment(), FedRS("soft", 0.5)])
def test_counts_that_do_not_fit_are_refused_in_words(objective: Objective) -> None:
    with pytest.raises(ValueError, match=r"one number a class, \(3,\) .*, got shape \(2,\)"):
        objective(LOGITS, LABELS, torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"samples of the classes \[1\], of which class_counts"):
        objective(LOGITS, LABELS, torch.tensor([16, 0, 3]))


def toy(labels: list[int]) -> Samples:
    generator = torch.Generator().manual_seed(2)
    return Samples(torch.randn(len(labels), 1, 4, 4, generator=generator), torch.tensor(labels))


def trained(data: Samples, **options: object) -> nn.Module:
    model = build_model("mlp", (1, 4, 4), 3, seed=0, widths=(5,))
    training = LocalTraining(epochs=3, batch_size=4, lr=0.2, **options)  # type: ignore[arg-type]
    train_local(model, data, training, n_classes=3, seed=1)
    return model


def test_training_gives_the_objective_the_clients_counts_not_the_batches() -> None:
    seen = []

    def own_loss(logits: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        seen.append(counts.tolist())
        return functional.cross_entropy(logits, labels)

    data = toy([0] * 7 + [2] * 3)
    ours, plain = trained(data, objective=own_loss), trained(data)
    assert seen == [[7, 0, 3]] * 9
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


def test_fedrs_is_the_same_as_an_objective_and_as_an_option() -> None:
    data = toy([0] * 7 + [2] * 3)
    by_option = trained(data, fedrs=FedRS("binary", 0.3))
    as_objective = trained(data, objective=FedRS("binary", 0.3))
    for a, b in zip(by_option.parameters(), as_objective.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("objective", [FedLC(0.5), LogitAdjustment(1.0)])
def test_the_head_row_of_a_class_that_a_client_lacks_stays_as_it_came(objective: Objective) -> None:
    data = toy([0] * 7 + [2] * 3)
    start = build_model("mlp", (1, 4, 4), 3, seed=0, widths=(5,))
    model, plain = trained(data, objective=objective), trained(data)
    assert torch.equal(model[-1].weight[1], start[-1].weight[1])
    assert torch.equal(model[-1].bias[1], start[-1].bias[1])
    assert float(plain[-1].bias[1].detach()) < float(start[-1].bias[1].detach())
    assert not torch.equal(model[-1].weight[0], start[-1].weight[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objective": FedLC(), "fedrs": FedRS("soft", 0.1)}, "a client has one objective, got"),
        ({"feddecorr_beta": -0.1}, "feddecorr_beta must be >= 0, got -0.1"),
        ({"feddecorr_beta": float("nan")}, "feddecorr_beta must be >= 0, got nan"),
        ({"batch_norm": "mine"}, "batch_norm must be one of"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LocalTraining(**options)  # type: ignore[arg-type]
