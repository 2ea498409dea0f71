import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toy_network import toy_model, toy_subject, units

from fedcircuit.circuits.checks.minimality import minimality
from fedcircuit.circuits.checks.model_checks import CheckSettings, check_circuits
from fedcircuit.circuits.checks.subject import Candidates, checked_model
from fedcircuit.circuits.search.contrast import separations
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import gated
from fedcircuit.samples import Samples


def needed(subject, mask, class_index: int = 0, **options) -> float:
    classes = torch.tensor([class_index])
    return float(minimality(subject, mask[None], classes, negatives=99, **options))


def test_a_decoy_beside_two_detectors_is_not_needed() -> None:
    # the strong detector carries 2/3 of the separation, the weak one 1/3, a decoy next to nothing
    subject = toy_subject()
    assert needed(subject, units(0, 3)) == 1.0
    assert needed(subject, units(0, 3, 100)) == pytest.approx(2 / 3)
    assert needed(subject, units(0, 3, 100, 101)) == 0.5
    assert needed(subject, units(0, 3), threshold=0.5) == 0.5
    assert needed(subject, units(0, 3), threshold=0.9) == 0.0


def test_a_unit_that_serves_the_separation_from_one_class_alone_counts() -> None:
    # Unit 6 is a veto: shown class 1 it lowers the logit of class 0 by 0.06. The full model
    # separates 0 from 1 by 3.06 and from 2 by 3; without the veto from 1 by 3. That is 0.0196 less
    # of the worst pair, 0.0098 of the mean over both.
    model = toy_model()
    with torch.no_grad():
        model[0].weight[6] = torch.tensor([0.0, 1.0, 0.0, 0.0])
        model[2].weight[:, 6:] = 0.0
        model[2].weight[0, 6] = -0.06
    subject = toy_subject(model)
    assert needed(subject, units(0, 3, 6)) == 1.0
    assert needed(subject, units(0, 3, 6), threshold=0.0195) == 1.0
    assert needed(subject, units(0, 3, 6), threshold=0.0197) == pytest.approx(2 / 3)


def test_it_is_undefined_for_the_empty_circuit_and_without_another_class() -> None:
    assert math.isnan(needed(toy_subject(), units()))
    model = toy_model()
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([0.0, -9.0, -9.0]))
    assert math.isnan(needed(toy_subject(model), units(0, 3)))


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_it_agrees_with_one_gated_pass_for_each_unit(seed) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 4))
    samples = Samples(torch.randn(32, 6), torch.arange(32) % 4)
    with torch.no_grad():  # mostly right
        samples.labels[:24] = model(samples.inputs[:24]).argmax(1)
    sites = find_sites(model, samples.inputs)
    reference = {site.name: torch.rand(1, site.n_units) for site in sites}
    subject = checked_model(model, sites, samples, reference, n_classes=4)
    mask, c = torch.rand(14) < 0.6, int(samples.labels[0])

    def pairs(kept):
        gates = {"0": kept[:9].float(), "2": kept[9:].float()}
        with torch.no_grad(), gated(model, sites, gates, reference):
            z = model(samples.inputs)
        found = separations(z[None], samples.labels, torch.tensor([c]))[0]
        return {d: found[d].item() for d in range(4) if d != c}

    full = pairs(torch.ones(14, dtype=torch.bool))
    counted = [d for d in full if full[d] > 0 and bool(subject.recognised[d])]
    found = needed(subject, mask, c)
    if not counted or not mask.any():
        assert math.isnan(found)
        return

    def worst(kept):
        return min(value / full[d] for d, value in pairs(kept).items() if d in counted)

    lost = []
    for unit in mask.nonzero().flatten().tolist():
        without = mask.clone()
        without[unit] = False
        lost.append(worst(mask) - worst(without))
    assert (
        sum(x > 0.01 + 1e-5 for x in lost)
        <= round(found * len(lost))
        <= sum(x > 0.01 - 1e-5 for x in lost)
    )


def test_the_checks_measure_it_on_request() -> None:
    circuits = Candidates(
        torch.stack([units(0, 3, 100, 101), units(1, 4), units(2, 5)]),
        torch.ones(3, dtype=torch.bool),
    )
    for wanted, values in ((False, [math.nan] * 3), (True, [0.5, 1.0, 1.0])):
        settings_ = CheckSettings(minimality=wanted)
        result = check_circuits(toy_subject(), circuits, settings_, torch.Generator())
        assert [one.minimality for one in result] == pytest.approx(values, nan_ok=True)


def test_a_negative_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold must be >= 0, got -1"):
        needed(toy_subject(), units(0), threshold=-1.0)
