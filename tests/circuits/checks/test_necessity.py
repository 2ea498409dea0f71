import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toy_network import N_UNITS, toy_model, toy_subject, units

from fedcircuit.circuits.checks.controls import Controls, random_like
from fedcircuit.circuits.checks.knockout import recall_drops
from fedcircuit.circuits.checks.measures import high_quantile
from fedcircuit.circuits.checks.model_checks import CheckSettings, check_circuits
from fedcircuit.circuits.checks.necessity import best_units, selective_necessity
from fedcircuit.circuits.checks.subject import Candidates, checked_model
from fedcircuit.circuits.checks.validity import Validity
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.samples import Samples

NO_DRAWS = Controls(removals=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def removed(subject, mask, class_index: int = 0, controls: Controls = NO_DRAWS):
    return selective_necessity(
        subject, mask[None], torch.tensor([class_index]), controls, generator()
    )


def test_the_drop_of_the_class_less_that_of_the_others_by_hand() -> None:
    # A prior of 1.9 for class 1. Without unit 0 class 0 gets z = (2/3 + 1, 1.9, 0): lost to it;
    # classes 1 and 2 are kept, (2/3, 4.9, 0) and (2/3, 1.9, 3).
    subject = toy_subject(toy_model(prior=1.9))
    one = removed(subject, units(0))
    assert (one.own.item(), one.collateral.item(), one.value.item()) == (1.0, 0.0, 1.0)
    # without unit 2 as well class 2 is lost: one of the two others
    two = removed(subject, units(0, 2))
    assert (two.own.item(), two.collateral.item(), two.value.item()) == (1.0, 0.5, 0.5)
    assert two.others[0].tolist() == pytest.approx([math.nan, 0.0, 1.0], nan_ok=True)
    # the units of another class: -1/2
    wrong = removed(subject, units(2))
    assert (wrong.own.item(), wrong.value.item()) == (0.0, -0.5)


def test_a_class_that_the_model_does_not_recognise_is_no_collateral() -> None:
    model = toy_model(prior=1.9)
    with torch.no_grad():
        model[2].bias[2] = -9.0
    result = removed(toy_subject(model), units(0, 1, 4))
    # class 1 without its units keeps its prior: z = (2/3, 1.9 + 1, -9)
    assert result.others[0].tolist() == pytest.approx([math.nan, 0.0, math.nan], nan_ok=True)
    assert result.value.item() == 1.0


def test_without_another_class_or_without_units_it_is_undefined() -> None:
    model = toy_model()
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([0.0, -9.0, -9.0]))
    draws = Controls(removals=2)
    alone = removed(toy_subject(model), units(0), controls=draws)
    none = removed(toy_subject(), units(), controls=draws)
    for result in (alone, none):
        values = (result.own, result.value, result.null_mean, high_quantile(result.null, 0.95))
        assert all(math.isnan(value.item()) for value in values)


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_drops_and_random_draws_agree_with_a_naive_computation(seed) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3))
    samples = Samples(torch.randn(30, 6), torch.arange(30) % 3)
    sites = find_sites(model, samples.inputs)
    reference = {site.name: torch.rand(1, site.n_units) for site in sites}
    subject = checked_model(model, sites, samples, reference, n_classes=3)
    best, classes = torch.rand(3, 14) < 0.3, torch.tensor([1, 0, 2])
    controls = Controls(negatives=100, removals=3)
    result = selective_necessity(subject, best, classes, controls, generator(seed))

    labels, x = samples.labels.numpy(), samples.inputs.numpy()
    weights = [layer for layer in model if isinstance(layer, nn.Linear)]

    def right(gone):
        h, start = x, 0
        for layer, site in zip(weights, sites, strict=False):
            h = np.maximum(h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), 0)
            out = gone[start : start + site.n_units].numpy()
            h = np.where(out, reference[site.name].numpy(), h)
            start += site.n_units
        said = h @ weights[-1].weight.detach().numpy().T + weights[-1].bias.detach().numpy()
        hit = said.argmax(1) == labels
        return np.array([hit[labels == k].mean() for k in range(3)])

    full = right(torch.zeros(14, dtype=torch.bool))
    # random units are drawn for the rows in which something is measured, in their order
    measured = [
        row for row, c in enumerate(classes.tolist())
        if best[row].any() and any(full[k] >= 0.5 for k in range(3) if k != c)
    ]  # fmt: skip
    randoms = random_like(best[measured], subject.live, sites, 3, generator(seed))
    for row, c in enumerate(classes.tolist()):
        others = [k for k in range(3) if k != c and full[k] >= 0.5]
        if row not in measured:
            assert math.isnan(result.value[row].item())
            continue
        drop = full - right(best[row])
        assert result.own[row].item() == pytest.approx(drop[c])
        assert result.others[row, others].tolist() == pytest.approx(drop[others].tolist())
        assert result.value[row].item() == pytest.approx(drop[c] - drop[others].mean())
        null = []
        for mask in randoms[:, measured.index(row)]:
            lost = full - right(mask)
            null.append(lost[c] - lost[others].mean())
        assert result.null_mean[row].item() == pytest.approx(np.mean(null))
        assert high_quantile(result.null, 0.95)[row].item() == pytest.approx(max(null))
        assert high_quantile(result.null, 0.5)[row].item() == pytest.approx(sorted(null)[1])


def test_no_circuits_lose_nothing() -> None:
    none = torch.zeros(0, N_UNITS, dtype=torch.bool)
    assert recall_drops(toy_subject(), none, []).shape == (0, 3)
    classes = torch.zeros(0, dtype=torch.int64)
    result = selective_necessity(toy_subject(), none, classes, Controls(), generator())
    assert (result.value.shape, result.null.shape) == ((0,), (4, 0))


def test_the_best_units_by_hand() -> None:
    masks = torch.tensor([[1, 1, 0, 1, 1, 0]]) > 0
    scores = torch.tensor([[0.1, 0.5, 9.0, -2.0, 0.5, 9.0]])
    assert best_units(masks, scores, 0.05).tolist() == [[False, True, False, False, False, False]]
    assert best_units(masks, scores, 0.5).tolist() == [[False, True, False, False, True, False]]
    assert torch.equal(best_units(masks, scores, 1.0), masks)


@given(st.integers(0, 200), st.sampled_from(["0.05", "0.1", "0.3"]), st.integers(0, 99))
def test_the_share_of_units_is_rounded_up(size, share, seed) -> None:
    masks = torch.zeros(1, 200, dtype=torch.bool)
    masks[0, torch.randperm(200, generator=generator(seed))[:size]] = True
    scores = torch.randn(1, 200, generator=generator(seed))
    best = best_units(masks, scores, float(share))
    assert int(best.sum()) == math.ceil(Fraction(share) * size)
    assert not (best & ~masks).any()
    rest = scores[masks & ~best]
    assert not len(rest) or scores[best].min() >= rest.max()


def test_seven_per_cent_of_100_units_are_seven() -> None:
    masks = torch.ones(1, 100, dtype=torch.bool)  # 0.07 * 100 is 7.000000000000001
    assert int(best_units(masks, torch.rand(1, 100), 0.07).sum()) == 7


def test_a_circuit_with_an_unscored_unit_has_no_best_units() -> None:
    masks = torch.tensor([[1, 1, 0], [1, 0, 1], [1, 0, 1]]) > 0
    scores = torch.tensor([[1.0, 2.0, math.nan], [1.0, 2.0, math.nan], [-math.inf, 0.0, -math.inf]])
    best = best_units(masks, scores, 0.1)
    assert best.tolist() == [[False, True, False], [False] * 3, [True, False, False]]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_out_of_range_is_refused(share) -> None:
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        best_units(units(0)[None], torch.zeros(1, N_UNITS), share)


MASKS = torch.stack([units(0, 3, *range(100, 118)), units(1, 4), units(2, 5)])


def checked(scores, controls: Controls | None = None) -> tuple[Validity, ...]:
    subject = toy_subject(toy_model(prior=1.9))
    circuits = Candidates(MASKS, torch.ones(3, dtype=torch.bool), scores)
    settings = CheckSettings(controls=controls or Controls())
    return check_circuits(subject, circuits, settings, generator())


def ranking(*best: int) -> torch.Tensor:
    scores = torch.zeros(3, N_UNITS)
    for place, unit in enumerate(best):
        scores[:, unit] = 10.0 - place
    return scores


def test_the_checks_take_five_and_ten_per_cent_by_the_scores() -> None:
    # class 0 has 20 units: 1 and 2 of them. Its weak detector 3 first: kept, z_0 = 2 + 1/3
    # against 1.9; then the strong one as well: 1, lost.
    first = checked(ranking(3, 0))[0]
    assert (first.selective_necessity_5, first.selective_necessity_10) == (0.0, 1.0)
    assert checked(ranking(0, 3))[0].selective_necessity_5 == 1.0
    # random pairs of 1006 units hardly ever hold a detector
    assert (first.selective_necessity_5_null, first.selective_necessity_10_null) == (0.0, 0.0)


def test_without_scores_or_controls_the_measures_are_undefined() -> None:
    none = checked(None)[0]
    assert math.isnan(none.selective_necessity_5)
    assert math.isnan(none.selective_necessity_10_null)
    alone = checked(ranking(0, 3), Controls(count=0))[0]
    assert alone.selective_necessity_5 == 1.0
    assert math.isnan(alone.selective_necessity_5_null)


@pytest.mark.parametrize(
    ("masks", "found", "scores", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3), None, "found .classes., got \\(2, 3\\) and \\(3,\\)"),
        (torch.zeros(3), torch.zeros(3), None, "masks must be"),
        (torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 4), "scores must be \\(2, 3\\)"),
    ],
)
def test_candidates_that_do_not_fit_are_refused(masks, found, scores, message) -> None:
    with pytest.raises(ValueError, match=message):
        Candidates(masks > 0, found > 0, scores)
