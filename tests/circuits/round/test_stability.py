import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted_helpers import N_CLASSES, planted_mlp, planted_samples

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.discovery.one_model import discover
from fedcircuit.circuits.overlap.jaccard import Side, paired_overlaps
from fedcircuit.circuits.overlap.ranked_overlap import top_k
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.circuits.round.stability import (
    SampleScores,
    bootstrap_stability,
    corrected_overlap,
    resample_counts,
    stability,
    stability_of,
    swapped_halves,
)
from fedcircuit.circuits.search.protocol import Cost, Discovery

SITES = (Site("x", 6, 1, "x"),)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_overlap_is_divided_by_what_each_model_reaches_with_itself() -> None:
    # .5 / sqrt(.64 * .25) = .5 / .4
    assert corrected_overlap(np.array(0.5), np.array(0.64), np.array(0.25)) == pytest.approx(1.25)
    corrected = corrected_overlap(
        np.array([0.5, -0.1]), np.array([[0.8], [0.0]]), np.array([0.8, 0.2])
    )
    assert corrected[0] == pytest.approx([0.625, -0.25])
    assert np.isnan(corrected[1]).all()
    assert np.isnan(corrected_overlap(np.array(0.5), np.array(0.8), np.array(0.0)))


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_corrected_overlap_needs_two_positive_ceilings(value, first, second) -> None:
    result = corrected_overlap(np.array(value), np.array(first), np.array(second))
    assert np.isnan(result) == (first <= 0 or second <= 0)
    nan = np.array(math.nan)
    assert np.isnan(corrected_overlap(np.array(value), nan, np.array(0.5)))
    assert np.isnan(corrected_overlap(nan, np.array(0.5), np.array(0.5)))


def probe(seed: int = 0) -> Probe:
    names = tuple(f"class {i}" for i in range(N_CLASSES))
    return Probe.split(planted_samples(6, seed), names, seed)


def test_four_searches_are_compared_as_they_are_named() -> None:
    given_probe = probe()
    first_half = given_probe.discovery

    def find(part: Probe, seed: int) -> Discovery:
        """The first half gives units 0 1 2 with seed 3, another half or seed shifts them."""
        shift = (2 if seed == 4 else 0) + (0 if part.discovery is first_half else 1)
        masks = torch.zeros(2, 6, dtype=torch.bool)
        masks[0, shift : shift + 3] = True
        found = torch.tensor([True, False])
        scores = torch.zeros(2, 6)
        return Discovery(SITES, masks, found, scores, ("", "none"), Cost(0, 0, 0), (None, None))

    result = stability_of(find, given_probe, seeds=(3, 4))
    assert result.seeds.iou[0, -1] == pytest.approx(1 / 5)  # 0 1 2 against 2 3 4
    assert result.halves.iou[0, -1] == pytest.approx(2 / 4)  # 0 1 2 against 1 2 3
    assert result.both.iou[0, -1] == 0.0  # 0 1 2 against 3 4 5
    assert result.seeds.pool[0, -1] == 6
    assert np.isnan(result.seeds.iou[1]).all()
    live = torch.tensor([True, True, True, False, True, True])
    assert stability_of(find, given_probe, seeds=(3, 4), live=live).seeds.pool[0, -1] == 5


def test_equal_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="seeds must differ"):
        stability(planted_mlp()[0], probe(), seeds=(2, 2))


def test_halves_are_exchanged() -> None:
    one = probe()
    other = swapped_halves(one)
    assert other.discovery is one.checking
    assert other.checking is one.discovery
    assert other.class_names == one.class_names


def test_a_method_that_draws_nothing_agrees_with_itself_under_another_seed() -> None:
    model, _ = planted_mlp()
    result = stability(model, probe(), CircuitSettings(ablation="zero"))
    assert (result.seeds.iou[:, -1] == 1).all()
    np.testing.assert_array_equal(result.halves.iou, result.both.iou)
    assert (result.halves.adjusted[:, -1] > 0.5).all()


def test_stability_compares_searches_on_the_halves_of_the_probe() -> None:
    model, _ = planted_mlp()
    given_probe = probe(1)
    result = stability(model, given_probe)
    first = discover(model, given_probe)
    second = discover(model, swapped_halves(given_probe))
    expected = paired_overlaps(
        Side(first.masks, first.found), Side(second.masks, second.found), first.sites
    )
    np.testing.assert_array_equal(result.halves.intersection, expected.intersection)
    assert (result.halves.pool[:, -1] < expected.pool[:, -1]).all()  # live units only


@dataclass
class Recorder:
    """A method that finds nothing and writes down what it was asked."""

    asked: list[tuple[int, int, bool]]
    name: str = "recorder"

    def __call__(self, model, sites, task, generator) -> Discovery:
        self.asked.append((generator.initial_seed(), len(task.samples), task.reference is not None))
        n_units = sum(site.n_units for site in sites)
        nothing = torch.zeros(task.n_classes, n_units)
        found, words = torch.zeros(task.n_classes, dtype=torch.bool), ("",) * task.n_classes
        none = (None,) * task.n_classes
        return Discovery(sites, nothing > 0, found, nothing, words, Cost(0, 0, 0), none)


def test_method_ablation_and_seeds_are_those_asked_for() -> None:
    method = Recorder([])
    given_probe = Probe(planted_samples(3, 0), planted_samples(2, 1), ("",) * N_CLASSES)
    settings = CircuitSettings(method=method, ablation="zero")
    result = stability(planted_mlp()[0], given_probe, settings, seeds=(8, 9))
    here, there = 3 * N_CLASSES, 2 * N_CLASSES
    assert sorted(method.asked) == [
        (8, there, False),
        (8, here, False),
        (9, there, False),
        (9, here, False),
    ]
    assert result.both.n_undefined.tolist() == [N_CLASSES] * 3


def test_every_resample_draws_as_many_of_each_class_as_there_are() -> None:
    labels = torch.tensor([2, 0, 0, 2, 2, 5, 0, 2])
    counts = resample_counts(labels, 500, stream())
    for label in (0, 2, 5):
        of_class = counts[:, labels == label]
        assert (of_class.sum(1) == of_class.shape[1]).all()
        assert of_class.double().mean().item() == pytest.approx(1.0)
        # binomial: n draws, each with probability 1 / n
        n = of_class.shape[1]
        assert of_class.double().var().item() == pytest.approx(1 - 1 / n, abs=0.15)


def test_scores_without_noise_are_stable_and_pure_noise_is_not() -> None:
    clean = torch.tensor([[3.0, 2.0, 1.0, -1.0, -1.0, -1.0]])
    labels = torch.zeros(40, dtype=torch.int64)
    sure = bootstrap_stability(
        SampleScores(clean.expand(40, 1, 6), labels), SITES, partial(top_k, k=2), stream()
    )
    assert sure.adjusted[0] == pytest.approx([1.0, 1.0])
    assert sure.spread[0] == pytest.approx([0.0, 0.0])
    assert sure.n_pairs.tolist() == [[40, 40]]
    # noise is not centred between resamples of one set, so many units and many samples
    wide = (Site("x", 300, 1, "x"),)
    noise = torch.randn(400, 1, 300, generator=stream(1))
    pure = bootstrap_stability(
        SampleScores(noise - noise.mean(0), torch.zeros(400, dtype=torch.int64)),
        wide,
        partial(top_k, k=30),
        stream(2),
        draws=60,
    )
    assert abs(pure.adjusted[0, -1]) < 0.03


@pytest.mark.parametrize(("noise", "margin"), [(0.25, 0.02), (0.5, 0.05), (1.0, 0.08)])
def test_the_bootstrap_predicts_what_new_samples_give(noise, margin) -> None:
    signal, n, k = torch.linspace(-1, 1, 100), 30, 20
    sites = (Site("x", 100, 1, "x"),)

    def sample(seed: int) -> torch.Tensor:
        return signal + noise * torch.randn(n, 1, 100, generator=stream(seed))

    masks = torch.cat([top_k(sample(seed).sum(0), k) for seed in range(200)])
    truth = paired_overlaps(Side(masks[:100]), Side(masks[100:]), sites).adjusted[:, -1].mean()
    labels = torch.zeros(n, dtype=torch.int64)
    said = [
        bootstrap_stability(
            SampleScores(sample(seed), labels), sites, partial(top_k, k=k), stream(seed)
        ).adjusted[0, -1]
        for seed in range(1000, 1020)
    ]
    assert -0.02 < np.mean(said) - truth < margin
    assert 0.4 < truth < 0.95


def test_resampled_circuits_are_those_of_the_resampled_scores() -> None:
    scores = torch.randn(9, 2, 6, generator=stream(3)) + 0.5
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 0, 1, 1])
    result = bootstrap_stability(
        SampleScores(scores, labels), SITES, partial(top_k, k=2), stream(4), draws=3
    )
    counts = resample_counts(labels, 3, stream(4))
    circuits = [
        [top_k(sum(int(c) * scores[i, k] for i, c in enumerate(row)), 2) for k in range(2)]
        for row in counts
    ]
    for k in range(2):
        values = []
        for one, two in ((0, 1), (1, 2), (2, 0)):
            sides = Side(circuits[one][k][None]), Side(circuits[two][k][None])
            values.append(paired_overlaps(*sides, SITES).adjusted[0, -1])
        assert result.adjusted[k, -1] == pytest.approx(np.mean(values))
        assert result.spread[k, -1] == pytest.approx(np.std(values, ddof=1))


def test_a_class_without_circuits_has_no_stability() -> None:
    scores = torch.cat([torch.ones(5, 1, 6), -torch.ones(5, 1, 6)], dim=1)
    labels = torch.zeros(5, dtype=torch.int64)
    result = bootstrap_stability(SampleScores(scores, labels), SITES, partial(top_k, k=2), stream())
    assert result.n_pairs.tolist() == [[40, 40], [0, 0]]
    assert np.isnan(result.adjusted[1]).all()
    assert np.isnan(result.spread[1]).all()


def test_what_cannot_be_resampled_is_refused() -> None:
    one = SampleScores(torch.ones(2, 1, 6), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="draws must be >= 3"):
        bootstrap_stability(one, SITES, partial(top_k, k=2), stream(), draws=2)
    empty = SampleScores(torch.ones(0, 1, 6), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="got none"):
        bootstrap_stability(empty, SITES, partial(top_k, k=2), stream())
    with pytest.raises(ValueError, match=r"scores must be \[n, classes, units\]"):
        SampleScores(torch.ones(2, 6), torch.zeros(2, dtype=torch.int64))
