import statistics
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted_helpers import N_CLASSES, planted_mlp, planted_samples
from torch import nn

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.masking.ablation import observed_reference, reference_activations
from fedcircuit.circuits.models.evaluation_mode import evaluating
from fedcircuit.circuits.search.contrast import against_others, contrast_of_logits, separations
from fedcircuit.circuits.search.protocol import Meter, Task
from fedcircuit.circuits.search.size_rules import Faithful, first_of_each_class
from fedcircuit.circuits.search.top_units import top_units
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.samples import Samples

SITES = (Site("a", 3, 1, "a"), Site("b", 2, 1, "b"))


def test_the_contrast_leaves_out_the_target_and_the_true_class() -> None:
    labels, target = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0])

    weights = contrast_of_logits(labels, target, 4)

    third = -1 / 3
    assert torch.allclose(
        weights,
        torch.tensor([[1, third, third, third], [1, 0, -0.5, -0.5], [1, -0.5, 0, -0.5]]).double(),
    )


def test_of_two_classes_the_other_logit_remains() -> None:
    weights = contrast_of_logits(torch.tensor([0, 1]), torch.tensor([0, 0]), 2)

    assert weights.tolist() == [[1, -1], [1, -1]]


@given(st.integers(2, 6), st.integers(0, 10), st.floats(-5, 5))
def test_a_shift_of_all_logits_changes_no_separation(n: int, seed: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 4 * n, n, generator=generator, dtype=torch.float64)
    labels = torch.arange(n).repeat(4)

    before = separations(logits, labels, torch.arange(n))
    after = separations(logits + shift, labels, torch.arange(n))

    assert torch.allclose(before, after, equal_nan=True)
    assert before.isnan().equal(torch.eye(n, dtype=torch.bool))


def test_one_loud_other_class_moves_no_separation() -> None:
    logits = torch.zeros(1, 2, 6)  # samples of classes 0 and 1
    logits[0, :, 0] = torch.tensor([5.0, 1.0])
    logits[0, :, 4] = 100.0

    found = separations(logits, torch.tensor([0, 1]), torch.tensor([0]))

    assert found[0, 1] == 4.0


def test_separations_of_rows_with_samples_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 12, 5, generator=generator)
    labels = torch.stack([torch.arange(12) % 5, torch.arange(12) // 3])
    classes = torch.tensor([1, 3])

    found = separations(logits, labels, classes)

    for row in range(2):
        alone = separations(logits[row : row + 1], labels[row], classes[row : row + 1])[0]
        assert torch.allclose(found[row], alone, equal_nan=True)
        t = []  # by its definition, sample by sample
        for z, y in zip(logits[row].tolist(), labels[row].tolist(), strict=True):
            c = int(classes[row])
            t.append(z[c] - statistics.median(v for j, v in enumerate(z) if j not in (c, y)))
        own = statistics.mean(v for v, y in zip(t, labels[row].tolist(), strict=True) if y == c)
        rest = statistics.mean(v for v, y in zip(t, labels[row].tolist(), strict=True) if y == 0)
        assert float(found[row, 0]) == pytest.approx(own - rest)


@given(st.integers(0, 100))
def test_half_of_a_score_is_against_the_best_separated_class(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    own, others = torch.randn(3, generator=generator), torch.randn(4, 3, generator=generator)

    score = against_others(own, others)

    best, mean = own - others.amin(0), own - others.mean(0)
    assert torch.allclose(score, (best + mean) / 2)
    assert (score <= best + 1e-6).all()


def test_separations_by_hand() -> None:
    logits = torch.tensor([[[4.0, 1.0, 1.0], [2.0, 9.0, 0.0]]])  # one row, samples of 0 and 1

    found = separations(logits, torch.tensor([0, 1]), torch.tensor([0]))

    # t_0 is 4 - 1 on class 0, and 2 - 0 on class 1, whose own logit 9 does not count
    assert found[0, 1] == 1.0
    assert found[0, [0, 2]].isnan().all()  # of itself, and of a class without samples


def test_the_best_units_and_one_in_every_site() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.5, 0.1]]).repeat(3, 1)

    masks = top_units(scores, torch.tensor([1, 2, 4]), SITES)

    assert masks.int().tolist() == [[1, 0, 0, 1, 0], [1, 1, 0, 1, 0], [1, 1, 1, 1, 0]]


def test_units_without_a_positive_score_are_not_taken_for_their_rank() -> None:
    masks = top_units(torch.tensor([[1.0, -1.0, 0.0, -2.0, -3.0]]), torch.tensor([5]), SITES)

    assert masks.int().tolist() == [[1, 0, 0, 1, 0]]  # site b keeps its best nevertheless


def prepared() -> tuple[nn.Module, torch.Tensor, tuple[Site, ...], Task]:
    model, truth = planted_mlp()
    samples = planted_samples(10, seed=0)
    sites = find_sites(model, samples.inputs)
    reference = reference_activations(model, sites, samples, n_classes=N_CLASSES, ablation="mean")
    return model, truth, sites, Task(samples, N_CLASSES, reference)


@pytest.mark.parametrize("loss", [0.05, 0.1, 0.2, 0.4])
def test_the_least_size_is_found_whatever_the_loss_allows(loss: float) -> None:
    model, truth, sites, task = prepared()
    rank = truth.float() + 0.01 * torch.rand(truth.shape, generator=torch.Generator())

    with evaluating(model):
        sizing = Faithful(loss=loss)(rank, model, sites, task, torch.Generator(), Meter())

    assert torch.equal(sizing.masks, truth)
    for curve in sizing.curves:
        assert curve is not None
        points = zip(curve.sizes, curve.faithfulness, strict=True)
        assert max(value for size, value in points if size <= 3) >= 1 - loss


def preferred_class() -> tuple[nn.Module, tuple[Site, ...], Task]:
    """Three classes with a detector each; the first has a bias, which a fourth unit takes back."""
    first, head = nn.Linear(4, 4, bias=False), nn.Linear(4, 3)
    with torch.no_grad():
        first.weight.copy_(torch.eye(4))
        head.weight.copy_(torch.tensor([[4.0, 0, 0, -2], [0, 3, 0, 0], [0, 0, 3, 0]]))
        head.bias.copy_(torch.tensor([1.0, 0, 0]))
    inputs = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]]).repeat(4, 1)
    model = nn.Sequential(first, nn.ReLU(), head)
    samples = Samples(inputs, torch.arange(3).repeat(4))
    return model, find_sites(model, inputs), Task(samples, 3, None)


@pytest.mark.parametrize(("fpr", "units"), [(1.0, [0]), (0.5, [0, 3])])
def test_a_circuit_that_takes_the_others_for_its_class_can_grow(
    fpr: float, units: list[int]
) -> None:
    # Alone, the detector gives (5, 0, 0) and elsewhere (1, 0, 0): every sample is of class 0. Its
    # separation is 4 of 6. With the fourth unit the others give (-1, 0, 0).
    model, sites, task = preferred_class()
    scores = torch.tensor([[2.0, 0.1, 0.1, 1.0], [0, 1, 0, 0], [0, 0, 1, 0]])
    rule = Faithful(loss=0.4, fpr=fpr, tolerance=0.0)

    with evaluating(model):
        sizing = rule(scores, model, sites, task, torch.Generator(), Meter())

    assert sizing.masks[0].nonzero().flatten().tolist() == units
    curve = sizing.curves[0]
    assert curve is not None
    at = dict(zip(curve.sizes, zip(curve.faithfulness, curve.fpr, strict=True), strict=True))
    assert at[1] == pytest.approx((4 / 6, 1.0))
    if fpr < 1:
        assert at[2] == pytest.approx((1.0, 0.0))


def test_where_no_size_helps_the_smallest_faithful_circuit_remains() -> None:
    model, sites, task = preferred_class()
    scores = torch.tensor([[2.0, 0.1, -0.1, -1.0], [0, 1, 0, 0], [0, 0, 1, 0]])

    with evaluating(model):
        sizing = Faithful(loss=0.4, fpr=0.4)(scores, model, sites, task, torch.Generator(), Meter())

    assert sizing.masks[0].tolist() == [True, False, False, False]


def test_a_useless_ranking_needs_more_units() -> None:
    model, truth, sites, task = prepared()
    backwards = 1.5 - truth.float()

    with evaluating(model):
        sizing = Faithful()(backwards, model, sites, task, torch.Generator(), Meter())

    assert (sizing.masks.sum(1) > 40).all()
    assert (sizing.masks & truth).sum(1).eq(3).all()  # nothing less is faithful


def test_without_a_positive_score_there_is_no_circuit() -> None:
    model, truth, sites, task = prepared()
    scores = truth.float()
    scores[2], scores[5] = -1.0, torch.nan

    with evaluating(model):
        sizing = Faithful()(scores, model, sites, task, torch.Generator(), Meter())

    assert sizing.masks.any(1).logical_not().nonzero().flatten().tolist() == [2, 5]
    assert sizing.curves[2] is None
    assert sizing.curves[5] is None


def test_the_search_sees_the_reference_of_its_own_samples() -> None:
    samples = Samples(torch.arange(6.0)[:, None], torch.tensor([1, 0, 0, 1, 0, 1]))
    task = Task(samples, 2, {"a": torch.arange(6.0)[:, None], "b": torch.zeros(1, 1)})

    few = first_of_each_class(task, 2)

    assert few.samples.labels.tolist() == [0, 0, 1, 1]
    assert few.samples.inputs.flatten().tolist() == [1, 2, 0, 3]
    assert few.reference["a"].flatten().tolist() == [1, 2, 0, 3]
    assert first_of_each_class(task, 3) is task


@pytest.mark.parametrize("samples_per_class", [4, 50])
def test_what_was_seen_already_saves_a_pass_and_changes_nothing(samples_per_class: int) -> None:
    model, truth, sites, task = prepared()
    reference, seen = observed_reference(
        model, sites, task.samples, n_classes=N_CLASSES, ablation="mean"
    )
    order = torch.randperm(len(task.samples), generator=torch.Generator().manual_seed(0))
    plain = Task(task.samples.take(order), N_CLASSES, reference)
    known = replace(plain, seen=seen.rows(order))
    rule = Faithful(samples_per_class=samples_per_class)
    meters = Meter(), Meter()

    with evaluating(model):
        found = [
            rule(truth.float(), model, sites, one, torch.Generator(), meter)
            for one, meter in zip((plain, known), meters, strict=True)
        ]

    assert torch.equal(found[0].masks, found[1].masks)
    assert found[0].curves == found[1].curves
    assert meters[0].forward - meters[1].forward == min(samples_per_class, 10) * N_CLASSES


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss must lie in \(0, 1\), got 1"):
        Faithful(loss=1.0)
    with pytest.raises(ValueError, match=r"fpr must lie in \(0, 1\], got 0"):
        Faithful(fpr=0.0)
    with pytest.raises(ValueError, match=r"tolerance must lie in \[0, 1\), got 1"):
        Faithful(tolerance=1.0)
    with pytest.raises(ValueError, match="samples_per_class must be >= 1, got 0"):
        Faithful(samples_per_class=0)
