"""Checks that run on some of the samples: which, when on all, and that nothing is lost by it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_network import N_UNITS, toy_model, toy_samples, toy_subject, units

from fedcircuit.circuits.checks.controls import Controls, Rivals, dealt, random_like, run_controls
from fedcircuit.circuits.checks.knockout import recall_drops
from fedcircuit.circuits.checks.measures import one_vs_rest
from fedcircuit.circuits.checks.model_checks import CheckSettings, check_circuits
from fedcircuit.circuits.checks.necessity import selective_necessity
from fedcircuit.circuits.checks.subject import Candidates
from fedcircuit.circuits.masking.contrast_samples import contrast
from fedcircuit.circuits.round.model_circuits import circuit_functions
from fedcircuit.samples import Samples

PAIRS = torch.stack([units(0, 3), units(1, 4), units(2, 5)])
NAMES = ("recall", "fpr", "auroc", "separation", "variance")


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noisy(per_class: int, noise: float = 0.5) -> Samples:
    plain = toy_samples(per_class)
    return Samples(
        plain.inputs + noise * torch.randn(plain.inputs.shape, generator=generator()), plain.labels
    )


def test_a_circuit_is_measured_on_its_class_and_an_even_share_of_the_others() -> None:
    subject = toy_subject(samples=noisy(20))
    classes = torch.tensor([2, 0])
    found = subject.measured(PAIRS[classes], classes, negatives=10)
    for row, c in enumerate(classes.tolist()):
        few = contrast(subject.labels, c, 10, subject.rest)
        assert len(few) == 30
        logits = subject.masked.logits(PAIRS[c : c + 1])[:, few]
        expected = one_vs_rest(logits, subject.labels[few], torch.tensor([c]))
        for name in NAMES:
            assert torch.allclose(getattr(found, name)[row], getattr(expected, name)[0])
    whole = subject.measured(PAIRS[classes], classes)
    assert not torch.allclose(whole.auroc, found.auroc)
    for name in NAMES:
        many = subject.measured(PAIRS[classes], classes, negatives=60)
        assert torch.equal(getattr(many, name), getattr(whole, name))


def taken_for_class_0(positions: list[int]) -> Samples:
    """Sixty samples of each class; those at the positions look like class 0."""
    samples = toy_samples(60)
    inputs = samples.inputs.clone()
    inputs[positions, :3] = torch.tensor([1.0, 0.0, 0.0])
    return Samples(inputs, samples.labels)


@pytest.mark.parametrize(
    ("seen", "unseen", "fpr"),
    [
        (0, 6, 0.0),  # 0 of 30 has probability .04 at an FPR of 0.1: below it, and left at that
        (1, 6, 7 / 120),  # 1 of 30 or fewer .18: open, so all 120 count
        (3, 0, 3 / 120),
        (6, 6, 12 / 120),  # 6 of 30 or more .07: open
        (7, 6, 7 / 30),  # .03: above it, and left at that
    ],
)
def test_a_circuit_runs_on_all_samples_where_few_leave_its_fpr_open(seen, unseen, fpr) -> None:
    plain = toy_samples(60)
    few = contrast(plain.labels, 0, 30)[60:]
    rest = (plain.labels != 0).nonzero().flatten()
    hidden = rest[~torch.isin(rest, few)]
    samples = taken_for_class_0([*few[:seen].tolist(), *hidden[:unseen].tolist()])
    result = check_circuits(
        toy_subject(samples=samples),
        Candidates(PAIRS, torch.tensor([True, False, False])),
        CheckSettings(negatives=30, controls=Controls(count=0)),
        generator(),
    )[0]
    assert (result.recall, result.fpr) == pytest.approx((1.0, fpr))


def test_no_negatives_are_refused() -> None:
    with pytest.raises(ValueError, match="negatives must be >= 1, got 0"):
        CheckSettings(negatives=0)


def test_circuits_in_other_weights_run_on_few_negatives() -> None:
    subject = toy_subject(samples=noisy(20, noise=1.0))
    chosen = torch.tensor([True, False, True])
    found = circuit_functions(subject, PAIRS, chosen, negatives=10)
    classes = torch.tensor([0, 2])
    expected = subject.measured(PAIRS[classes], classes, negatives=10)
    assert [found[c].fpr for c in (0, 2)] == pytest.approx(expected.fpr.tolist())
    assert [found[c].recall for c in (0, 2)] == pytest.approx(expected.recall.tolist())


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 5))
def test_samples_are_dealt_evenly_and_none_is_lost(n_own, n_others, parts) -> None:
    samples = torch.arange(n_own + n_others) + 7
    found = dealt(samples, n_own, parts)
    assert len(found) == parts
    if n_own < 16:
        assert all(torch.equal(part, samples) for part in found)
        return
    assert sorted(torch.cat(found).tolist()) == samples.tolist()
    own = [int((part < n_own + 7).sum()) for part in found]
    others = [len(part) - count for part, count in zip(found, own, strict=True)]
    assert max(own) - min(own) <= 1
    assert max(others) - min(others) <= 1
    assert all((part[:count] < n_own + 7).all() for part, count in zip(found, own, strict=True))


MASKS = torch.stack([units(0, *range(6, N_UNITS, 4)), units(1, *range(6, N_UNITS, 2)), units(2)])


def accuracies(subject, part: int | None) -> torch.Tensor:
    """Balanced accuracy of the random circuits of `controlled`, by the plain way."""
    randoms = random_like(MASKS, subject.live, subject.sites, 8, generator())
    result = torch.empty(8, 3, dtype=torch.float64)
    for c in range(3):
        few = contrast(subject.labels, c, 20, subject.rest)
        few = few if part is None else dealt(few, 40, 2)[part]
        logits = subject.masked.logits(randoms[:, c])[:, few]
        found = one_vs_rest(logits, subject.labels[few], torch.full((8,), c))
        result[:, c] = found.balanced_accuracy
    return result


def controlled(subject, reached: float) -> torch.Tensor:
    rivals = Rivals(MASKS, torch.arange(3), torch.full((3,), reached))
    controls = Controls(count=8, negatives=20)
    return run_controls(subject, rivals, controls, generator()).balanced_accuracy


def test_random_circuits_run_on_half_of_the_samples_where_that_decides() -> None:
    subject = toy_subject(samples=noisy(40, noise=1.5))
    half, whole = accuracies(subject, 0), accuracies(subject, None)
    assert not torch.equal(half, whole)
    # far better than any: the first half is enough
    assert torch.allclose(controlled(subject, 2.0), half.amax(0))
    # not clearly better: all samples, for all that could be the largest
    level = half.amax(0)
    mixed = torch.where(half >= level - 0.15, whole, half)
    assert torch.allclose(controlled(subject, 0.0), mixed.amax(0))
    assert not torch.allclose(mixed.amax(0), level)


def test_removed_parts_add_up_to_all_samples() -> None:
    # Every random circuit is the whole first layer: each of three draws takes its third of the
    # class's 18 samples, so that their mean is the drop on all.
    subject = toy_subject(samples=noisy(18, noise=1.0))
    everything = torch.ones(3, N_UNITS, dtype=torch.bool)
    rivals = Rivals(everything, torch.arange(3), torch.ones(3))
    found = run_controls(subject, rivals, Controls(count=3), generator()).necessity
    gone = subject.measured(~everything, torch.arange(3)).recall
    assert found.tolist() == pytest.approx((subject.full.recall - gone).tolist())
    assert len(set(found.tolist())) > 1


def test_random_draws_of_a_few_units_share_the_samples_out() -> None:
    # again every draw is the same: the mean over draws is the circuit's own selective necessity
    subject = toy_subject(toy_model(prior=0.5), samples=noisy(18, noise=1.0))
    everything = torch.ones(1, N_UNITS, dtype=torch.bool)
    result = selective_necessity(
        subject, everything, torch.tensor([0]), Controls(removals=3, negatives=71), generator()
    )
    assert result.null.shape == (3, 1)
    assert len(set(result.null.flatten().tolist())) > 1
    assert result.null_mean.item() == pytest.approx(result.value.item())
    # the circuit's own units are ablated on all of the negatives, the random ones on half of them
    fewer = selective_necessity(
        subject, everything, torch.tensor([0]), Controls(removals=3, negatives=18), generator()
    )
    drops = recall_drops(subject, ~everything, [contrast(subject.labels, 0, 18, subject.rest)])
    assert torch.allclose(fewer.others[0, 1:], drops[0, 1:])
    parts = dealt(contrast(subject.labels, 0, 9, subject.rest), 18, 3)
    lost = recall_drops(subject, ~everything.repeat(3, 1), parts)
    assert torch.allclose(fewer.null[:, 0], lost[:, 0] - lost[:, 1:].nanmean(1))
