import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toy_network import N_UNITS, toy_model, toy_samples, toy_subject, units

from fedcircuit.circuits.checks.controls import Controls
from fedcircuit.circuits.checks.knockout import knock_out
from fedcircuit.circuits.checks.model_checks import CheckSettings, check_circuits
from fedcircuit.circuits.checks.subject import Candidates, checked_model
from fedcircuit.circuits.checks.validity import Status, ValidityThresholds
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.samples import Samples

PAIRS = torch.stack([units(0, 3), units(1, 4), units(2, 5)])
FOUND = torch.ones(3, dtype=torch.bool)


def checked(subject, masks=PAIRS, found=FOUND, again=None, **settings):
    random = torch.Generator().manual_seed(0)
    circuits = Candidates(masks, found, again=again)
    return check_circuits(subject, circuits, CheckSettings(**settings), random)


def test_the_planted_circuits_are_valid() -> None:
    for one in checked(toy_subject()):
        assert (one.status, one.reason, one.size) == (Status.VALID, "", 2)
        assert (one.full_recall, one.full_fpr) == (1.0, 0.0)
        assert (one.recall, one.fpr, one.balanced_accuracy, one.auroc) == (1.0, 0.0, 1.0, 1.0)
        assert one.null_balanced_accuracy < 1.0
        assert one.constant is False


def test_faithfulness_by_hand() -> None:
    # Class 0, mean references 1/3 and 1/6. Full: t_0 - its mean over the others = 3 (bias cancels).
    # Unit 0 alone: z_0 moves by 2, so two thirds of z_0's share of the separation (which is 3 of
    # z_0, less a third of 3 for each class's own logit): 2 - 2/3 = 4/3. Ratio 4/9.
    masks = PAIRS.clone()
    masks[0] = units(0)
    assert checked(toy_subject(), masks)[0].faithfulness == pytest.approx(4 / 9, abs=1e-2)


def test_necessity_and_collateral_by_hand() -> None:
    # A prior of 1.5 for class 1. Without 0 and 3 class 0 gets z = (1, 1.5, 0): lost to it.
    # Classes 1 and 2 are kept: (1, 4.5, 0) and (1, 1.5, 3).
    subject = toy_subject(toy_model(prior=1.5))
    result = knock_out(subject, PAIRS[:1], torch.tensor([0]), negatives=8)
    assert (result.necessity.item(), result.collateral.item()) == (1.0, 0.0)
    # without 2 and 5 as well class 2 is lost too, (0, 1.5, 1): one of the two others
    both = knock_out(subject, units(0, 3, 2, 5)[None], torch.tensor([0]), negatives=8)
    assert (both.necessity.item(), both.collateral.item()) == (1.0, 0.5)
    # class 1 has its prior: without its units it still wins, (0, 2.5, 0)
    own = knock_out(subject, PAIRS[1:2], torch.tensor([1]), negatives=8)
    assert own.necessity.item() == 0.0


def naive(model, reference, mask, inputs):
    """Logits of the masked network by hand, in NumPy."""
    first, _, head = model
    hidden = np.maximum(inputs @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    hidden = np.where(mask, hidden, reference)
    return hidden @ head.weight.detach().numpy().T + head.bias.detach().numpy()


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_all_measures_agree_with_a_naive_computation(seed) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    samples = Samples(torch.randn(30, 6), torch.arange(30) % 3)
    sites = find_sites(model, samples.inputs)
    reference = {sites[0].name: torch.rand(1, 8)}
    subject = checked_model(model, sites, samples, reference, n_classes=3)
    masks = torch.rand(3, 8) < 0.6
    everything = ValidityThresholds(full_recall=0, full_balanced_accuracy=-1)
    result = checked(subject, masks, thresholds=everything, controls=Controls(negatives=100))
    labels, x = samples.labels.numpy(), samples.inputs.numpy()
    ref = next(iter(reference.values())).numpy()

    said = naive(model, ref, np.ones(8, bool), x).argmax(1)
    known = [k for k in range(3) if (said[labels == k] == k).mean() >= 0.5]
    counted = np.isin(labels, known if len(known) > 1 else range(3))

    def measures(mask, c):
        z = naive(model, ref, mask, x)
        t = z[:, c] - z.mean(1)
        own, rest = labels == c, (labels != c) & counted
        hit = z.argmax(1) == c
        return hit[own].mean(), hit[rest].mean(), t[own].mean() - t[rest].mean(), z.argmax(1)

    for c, one in enumerate(result):
        mask = masks[c].numpy()
        recall, fpr, kept, _ = measures(mask, c)
        full_recall, _, full, predicted = measures(np.ones(8, bool), c)
        full_fpr = (predicted[labels != c] == c).mean()
        gone_recall, _, _, left = measures(~mask, c)
        *_, empty, _ = measures(np.zeros(8, bool), c)
        drops = [
            ((predicted == k) & (labels == k)).sum() / 10 - ((left == k) & (labels == k)).sum() / 10
            for k in range(3)
            if k != c
        ]
        assert one.recall == pytest.approx(recall)
        assert one.fpr == pytest.approx(fpr)
        assert (one.full_recall, one.full_fpr) == pytest.approx((full_recall, full_fpr))
        assert one.necessity == pytest.approx(full_recall - gone_recall)
        assert one.collateral == pytest.approx(np.mean(drops))
        if full - empty > 1e-3:
            assert one.faithfulness == pytest.approx((kept - empty) / (full - empty), rel=1e-3)


def test_a_circuit_is_told_from_the_classes_that_its_model_recognises() -> None:
    # class 2's units are gone: its samples give z = (0, 0, 0), which class 0 gets by arg max
    model = toy_model()
    with torch.no_grad():
        model[0].weight[[2, 5]] = 0.0
        model[2].bias[0] = 0.5  # and clearly so
    one = checked(toy_subject(model))[0]
    assert one.full_fpr == pytest.approx(0.5)  # all samples of one of the two other classes
    assert (one.recall, one.fpr, one.status) == (1.0, 0.0, Status.VALID)


def test_a_constant_circuit_is_never_valid() -> None:
    masks = torch.stack([units(), units(0), units(6)])
    result = checked(toy_subject(), masks)
    assert [one.constant for one in result] == [True, False, False]
    assert result[0].status is Status.UNDISCOVERED
    assert "constant function" in result[0].reason
    # decoys vary, but less than an output that means anything
    strict = ValidityThresholds(output_variance=1e-2)
    assert checked(toy_subject(), masks, thresholds=strict)[2].constant is True


def test_a_circuit_that_no_sample_moves_is_constant_although_it_has_a_path() -> None:
    model = toy_model()
    with torch.no_grad():
        model[0].bias[0] = -5.0  # closed for every sample
    subject = toy_subject(model)
    masks = PAIRS.clone()
    masks[0] = units(0)
    assert subject.has_path(masks, torch.arange(3)).all()
    everything = ValidityThresholds(full_recall=0, full_balanced_accuracy=0)
    assert checked(subject, masks, thresholds=everything)[0].constant is True


def test_a_circuit_without_a_path_is_constant_whatever_varies() -> None:
    nothing_is_constant = ValidityThresholds(output_variance=0.0)
    masks = torch.stack([units(), units(1), units(2)])
    result = checked(toy_subject(), masks, thresholds=nothing_is_constant)
    assert [one.constant for one in result] == [True, False, False]


def test_faithfulness_to_a_model_that_separates_nothing_is_undefined() -> None:
    model = toy_model()
    with torch.no_grad():
        model[2].weight[0, [0, 3]] = -2.0  # class 0 gets the smallest logit where it is shown
    everything = ValidityThresholds(full_recall=0, full_balanced_accuracy=-1)
    result = checked(toy_subject(model), thresholds=everything)
    assert math.isnan(result[0].faithfulness)
    assert result[1].faithfulness > 0.5


class Shortcut(nn.Module):
    """The toy network beside a weak direct way from the input to the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.around, self.toy = nn.Linear(4, 3, bias=False), toy_model()
        with torch.no_grad():
            self.around.weight.copy_(0.5 * torch.eye(3, 4))

    def forward(self, x):
        return self.toy(x) + self.around(x)


def test_faithfulness_counts_from_what_the_empty_circuit_does() -> None:
    # The direct way alone separates by 0.5, which no unit is to thank for. (Layers in order of
    # execution: the direct layer runs last, and so is the head.)
    model = Shortcut()
    samples = toy_samples()
    sites = find_sites(model, samples.inputs)[:1]
    reference = reference_activations(model, sites, samples, n_classes=3, ablation="mean")
    subject = checked_model(model, sites, samples, reference, n_classes=3)
    assert subject.empty.separation.tolist() == pytest.approx([0.5] * 3, abs=1e-3)
    masks = PAIRS.clone()
    masks[0] = units(0)
    assert checked(subject, masks)[0].faithfulness == pytest.approx(4 / 9, abs=1e-2)


def test_a_class_without_samples_is_absent() -> None:
    result = checked(toy_subject(samples=toy_samples(classes=(0, 1))))
    assert [one.status for one in result] == [Status.VALID, Status.VALID, Status.ABSENT]
    assert math.isnan(result[2].full_recall)
    assert math.isnan(result[2].recall)
    assert result[2].constant is None
    assert "no sample" in result[2].reason


def test_a_class_the_model_does_not_recognise_is_not_learned() -> None:
    model = toy_model()
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([0.0, 0.0, -9.0]))
    result = checked(toy_subject(model))
    assert [one.status for one in result] == [Status.VALID, Status.VALID, Status.NOT_LEARNED]
    assert result[2].full_recall == 0.0
    assert "recall is 0.00, below 0.50" in result[2].reason
    assert math.isnan(result[2].balanced_accuracy)
    assert result[2].size == 2


def test_a_model_that_says_one_class_to_everything_has_not_learned_it() -> None:
    model = toy_model()
    with torch.no_grad():
        model[2].bias[1] = 9.0
    result = checked(toy_subject(model))
    assert result[1].full_recall == 1.0
    assert result[1].status is Status.NOT_LEARNED
    assert "100% of the other samples" in result[1].reason


def test_one_class_alone_cannot_be_told_from_anything() -> None:
    result = checked(toy_subject(samples=toy_samples(classes=(0,))))
    assert result[0].status is Status.NOT_LEARNED
    assert "no sample of another class" in result[0].reason


def test_a_class_whose_circuit_was_not_found_is_undiscovered() -> None:
    result = checked(toy_subject(), found=torch.tensor([True, False, True]))
    assert result[1].status is Status.UNDISCOVERED
    assert (result[1].reason, result[1].size) == ("no circuit was found", None)
    assert math.isnan(result[1].recall)
    assert result[1].full_recall == 1.0


def test_the_circuits_of_a_second_search_are_compared_with_those_of_the_first() -> None:
    # equal; one of three units shared, with next to no chance among 1006; and none found
    again = Candidates(
        torch.stack([units(0, 3), units(1, 100), units()]), torch.tensor([True, True, False])
    )
    result = checked(toy_subject(), again=again)
    assert [one.stability for one in result[:2]] == pytest.approx([1.0, 1 / 3], abs=0.01)
    assert math.isnan(result[2].stability)
    assert [one.status for one in result] == ["valid", "undiscovered", "undiscovered"]
    assert result[1].reason.startswith("unstable: adjusted IoU 0.33")
    assert result[2].reason == "unstable: a second search found no circuit"
    lenient = ValidityThresholds(stability=0.3)
    assert checked(toy_subject(), again=again, thresholds=lenient)[1].status is Status.VALID


def test_stability_is_counted_among_the_live_units() -> None:
    model = toy_model()
    with torch.no_grad():
        model[2].weight[:, 6:] = 0.0  # six units are live: pairs share one of three at random
    again = Candidates(torch.stack([units(0, 1), units(1, 4), units(2, 5)]), FOUND)
    one = checked(toy_subject(model), again=again)[0]
    chance = 6 / 15 * 0 + 8 / 15 / 3 + 1 / 15
    assert one.stability == pytest.approx((1 / 3 - chance) / (1 - chance))


def test_units_of_another_class_are_no_circuit() -> None:
    masks = torch.stack([units(0, 3), units(1, 4), units(0, 3)])
    result = checked(toy_subject(), masks)
    assert result[2].status is Status.UNDISCOVERED
    assert result[2].recall == 0.0
    assert "balanced accuracy 0.500, below 0.800" in result[2].reason


def test_a_probe_that_does_not_fit_the_model_is_refused() -> None:
    model, samples = toy_model(), toy_samples()
    sites = find_sites(model, samples.inputs)
    with pytest.raises(ValueError, match="3 logits, expected 4"):
        checked_model(model, sites, samples, None, n_classes=4)
    nothing = samples.take(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one sample"):
        checked_model(model, sites, nothing, None, n_classes=3)


def test_the_toy_network_has_no_dead_unit() -> None:
    assert toy_subject().live.tolist() == [True] * N_UNITS
