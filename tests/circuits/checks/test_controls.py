import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_network import N_UNITS, toy_model, toy_subject, units

from fedcircuit.circuits.checks.controls import Controls, Rivals, random_like, run_controls
from fedcircuit.circuits.checks.model_checks import CheckSettings, check_circuits
from fedcircuit.circuits.checks.subject import Candidates
from fedcircuit.circuits.checks.validity import Status
from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.masking.contrast_samples import contrast

PAIRS = torch.stack([units(0, 3), units(1, 4), units(2, 5)])
FOUND = torch.ones(3, dtype=torch.bool)


def checked(controls: Controls):
    settings = CheckSettings(controls=controls)
    random = torch.Generator().manual_seed(7)
    return check_circuits(toy_subject(), Candidates(PAIRS, FOUND), settings, random)


SITES = (Site("a", 10, 1, "a"), Site("b", 6, 1, "b"))


@given(st.integers(0, 10**6))
def test_random_circuits_have_the_size_of_each_layer_and_live_units(seed) -> None:
    random = torch.Generator().manual_seed(seed)
    live = torch.rand(16, generator=random) < 0.7
    masks = live & (torch.rand(3, 16, generator=random) < 0.5)
    drawn = random_like(masks, live, SITES, 4, random)
    assert drawn.shape == (4, 3, 16)
    for part in (slice(0, 10), slice(10, 16)):
        assert torch.equal(drawn[..., part].sum(-1), masks[:, part].sum(-1).expand(4, 3))
    assert not (drawn & ~live).any()


def test_random_circuits_are_uniform_over_the_live_units() -> None:
    live = torch.tensor([True] * 6 + [False] * 4 + [True] * 6)
    masks = torch.zeros(1, 16, dtype=torch.bool)
    masks[0, :2] = True
    drawn = random_like(masks, live, SITES, 3000, torch.Generator().manual_seed(0))
    shares = drawn[:, 0, :6].double().mean(0)
    # 3000 draws of probability 1/3: five standard errors
    assert (shares - 1 / 3).abs().max() < 5 * math.sqrt(2 / 9 / 3000)


def test_a_circuit_larger_than_what_is_live_takes_dead_units_last() -> None:
    live = torch.tensor([True, True, False, False] + [True] * 12)
    masks = torch.zeros(1, 16, dtype=torch.bool)
    masks[0, :10] = True
    drawn = random_like(masks, live, SITES, 2, torch.Generator().manual_seed(0))
    assert (drawn.sum(-1) == 10).all()


def test_few_controls_give_their_largest_balanced_accuracy() -> None:
    subject = toy_subject(toy_model(prior=1.5))
    classes, controls = torch.arange(3), Controls(count=5, negatives=8)
    masks = torch.stack([units(0, 3, *range(6, N_UNITS, 8))] * 3)
    rivals = Rivals(masks, classes, torch.ones(3))
    result = run_controls(subject, rivals, controls, torch.Generator().manual_seed(3))
    randoms = random_like(masks, subject.live, subject.sites, 5, torch.Generator().manual_seed(3))
    each = torch.stack([subject.measured(r, classes).balanced_accuracy for r in randoms])
    assert torch.equal(result.balanced_accuracy, each.max(0).values)
    second, first = each.sort(0).values[-2:]
    assert (first > second).any()  # the largest is no tie
    gone = torch.stack([subject.measured(~r, classes).recall for r in randoms]).mean(0)
    assert torch.allclose(result.necessity, 1.0 - gone)
    assert result.necessity.max() > 0


def test_many_controls_give_the_quantile() -> None:
    subject = toy_subject()
    masks, classes = torch.stack([units(*range(0, N_UNITS, 2))] * 3), torch.arange(3)
    most = Controls(count=40, negatives=8, quantile=0.5)
    rivals = Rivals(masks, classes, torch.ones(3))
    result = run_controls(subject, rivals, most, torch.Generator().manual_seed(3))
    randoms = random_like(masks, subject.live, subject.sites, 40, torch.Generator().manual_seed(3))
    each = torch.stack([subject.measured(r, classes).balanced_accuracy for r in randoms])
    assert torch.equal(result.balanced_accuracy, each.sort(0).values[20])


def test_without_controls_there_is_no_null() -> None:
    result = checked(Controls(count=0))
    assert all(math.isnan(one.null_balanced_accuracy) for one in result)
    assert all(math.isnan(one.necessity_null) for one in result)
    assert all(one.status is Status.VALID for one in result)


def test_the_controls_depend_on_the_seed_alone() -> None:
    first, second = checked(Controls()), checked(Controls())
    assert first == second


def test_contrast_takes_all_of_the_class_and_an_even_share_of_the_others() -> None:
    labels = torch.tensor([2] * 20 + [0] * 3 + [1] * 10)
    chosen = contrast(labels, 0, 6)
    assert labels[chosen].tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert len(chosen.unique()) == 9
    assert len(contrast(labels, 0, 1000)) == 33


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": -1}, "count must be >= 0, got -1"),
        ({"negatives": 0}, "negatives must be >= 1, got 0"),
        ({"removals": -1}, "removals must be >= 0, got -1"),
        ({"quantile": 0.0}, "quantile must lie in"),
    ],
)
def test_controls_out_of_range_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Controls(**options)
