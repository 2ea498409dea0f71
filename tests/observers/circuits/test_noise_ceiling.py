"""The noise ceiling of a round: a second search, and overlaps relative to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from blob_models import blobs, network
from round_circuits import model_circuits, round_of

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.discovery.one_model import discover
from fedcircuit.circuits.overlap.jaccard import Side, paired_overlaps
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.learning.weights import get_weights, set_weights
from fedcircuit.observers.circuits.noise_ceiling import ceiling_table, corrected_table
from fedcircuit.observers.circuits.observer import CircuitObserver
from fedcircuit.records.rounds.round_record import ClientRecord, RoundView
from fedcircuit.samples import Samples

ONE = (Site("x", 4, 1, "x"),)
NAMES = ("a", "b", "c")
SETTINGS = CircuitSettings(controls=2)


def masks(*texts: str) -> torch.Tensor:
    return torch.tensor([[c == "1" for c in text] for text in texts])


def ceilings(first: torch.Tensor, second: torch.Tensor, sites=ONE, found=None):
    """Two searches on the global model, by layer."""
    table = paired_overlaps(Side(first), Side(second, found), sites)
    return {"global": {layer: table.adjusted[:, j] for j, layer in enumerate(table.layers)}}


PROBE = Probe.split(blobs(60, 9, apart=2.0), NAMES, seed=0)


@pytest.fixture(scope="module")
def view() -> RoundView:
    """Round 3: one client, and an average that is not quite its model, with dead units."""
    model = network()
    train_local(
        model, blobs(90, 1, apart=2.0), LocalTraining(epochs=20, batch_size=16), n_classes=3, seed=1
    )
    weights = get_weights(model)
    start = get_weights(network())
    average = {name: 0.8 * value + 0.2 * start[name] for name, value in weights.items()}
    average["5.weight"][:, :4] = 0  # four units that no class reads
    return RoundView(3, start, average, (ClientRecord("7", 90, weights),))


def test_the_overlap_relative_to_the_ceiling_by_hand() -> None:
    # two of four units in common by chance 7/18 of an IoU; class 0 shares one unit of three:
    # adjusted (1/3 - 7/18) / (11/18) = -1/11, class 1 both: 1
    average = model_circuits("global", ONE, masks("1100", "1100"), None)
    client = model_circuits("0", ONE, masks("1010", "1100"), None)
    # the second search finds class 0 again and shares nothing in class 1: (0 - 7/18) / (11/18)
    again = ceilings(average.masks, masks("1100", "0011"))
    found = {
        row[:3]: row[3:] for row in corrected_table(round_of(average, {"0": client}), again).rows
    }
    assert found["0", 0, "all"] == pytest.approx((-1 / 11, 1.0, -1 / 11))
    adjusted, ceiling, corrected = found["0", 1, "all"]
    assert adjusted == pytest.approx(1.0)
    assert math.isnan(ceiling)  # a search that does not agree with itself says nothing
    assert math.isnan(corrected)
    rows = {row[:3]: row[3:] for row in ceiling_table(again).rows}
    assert rows["global", 0, "all"] == pytest.approx((1.0,))
    assert rows["global", 1, "x"] == pytest.approx((-7 / 11,))


def test_a_ceiling_between_zero_and_one_raises_the_overlap() -> None:
    sites = (Site("x", 6, 1, "x"),)
    average = model_circuits("global", sites, masks("111000"), None)
    client = model_circuits("0", sites, masks("110100"), None)
    again = ceilings(average.masks, masks("011100"), sites)
    (row, _) = corrected_table(round_of(average, {"0": client}), again).rows
    # both share two of three units, so the client agrees as far as the search does
    assert 0 < row[3] < 1
    assert row[3] == pytest.approx(row[4])
    assert row[5] == pytest.approx(1.0)


def test_the_second_search_is_on_the_other_half_of_the_probe(view: RoundView) -> None:
    observation = CircuitObserver(network(), PROBE, SETTINGS, seed=5, ceiling=True)(view)
    model = network()
    set_weights(model, view.after)
    swapped = Probe(PROBE.checking, PROBE.discovery, NAMES)
    first, second = (discover(model, probe) for probe in (PROBE, swapped))  # not random
    live = torch.from_numpy(observation.arrays["live"][0])
    expected = paired_overlaps(
        Side(first.masks, first.found, live), Side(second.masks, second.found, live), first.sites
    )
    table = observation.tables["ceiling"]
    assert table.columns == ("model", "class", "layer", "adjusted")
    assert {row[0] for row in table.rows} == {"global"}
    assert [row[1:3] for row in table.rows[:4]] == [(0, "1"), (1, "1"), (2, "1"), (0, "3")]
    got = np.array([row[3] for row in table.rows]).reshape(3, 3).T
    np.testing.assert_allclose(got, expected.adjusted, rtol=1e-5)  # five digits are recorded
    assert not torch.equal(first.masks, second.masks)
    overlaps = observation.tables["overlap"]
    at = overlaps.columns.index("adjusted")
    corrected = observation.tables["corrected"]
    assert len(corrected.rows) == len(overlaps.rows)
    assert [row[:3] for row in corrected.rows] == [row[:3] for row in overlaps.rows]
    assert [row[3] for row in corrected.rows] == [row[at] for row in overlaps.rows]
    assert "ceiling" in [part for part, _ in observation.tables["seconds"].rows]


def test_both_models_count_where_both_were_searched_twice_by_hand() -> None:
    sites = (Site("x", 6, 1, "x"),)
    average = model_circuits("global", sites, masks("111000", "111000"), None)
    client = model_circuits("0", sites, masks("111000", "111000"), None)
    result = round_of(average, {"0": client})
    limits = {"global": {"all": np.array([0.5, 0.5])}, "0": {"all": np.array([0.125, -0.1])}}
    first, second = corrected_table(result, limits).rows
    assert first == ("0", 0, "all", pytest.approx(1.0), pytest.approx(0.25), pytest.approx(4.0))
    assert math.isnan(second[4])
    assert math.isnan(second[5])


def test_a_stability_that_was_checked_is_read_and_not_searched_for_again(view: RoundView) -> None:
    settings = CircuitSettings(controls=2, stability=True)
    observation = CircuitObserver(network(), PROBE, settings, seed=5, ceiling=True)(view)
    validity = observation.tables["validity"]
    at = validity.columns.index("stability")
    checked = {(row[0], row[1]): row[at] for row in validity.rows}
    assert len(checked) == 6
    recorded = {row[:2]: row[3] for row in observation.tables["ceiling"].rows}
    np.testing.assert_equal(recorded, checked)
    assert {row[2] for row in observation.tables["ceiling"].rows} == {"all"}
    assert "ceiling" not in [part for part, _ in observation.tables["seconds"].rows]
    for client, index, _, adjusted, ceiling, corrected in observation.tables["corrected"].rows:
        both = checked[client, index] * checked["global", index]
        # of numbers recorded to five digits
        assert ceiling == pytest.approx(math.sqrt(both), rel=2e-5)
        assert corrected == pytest.approx(adjusted / ceiling, rel=3e-5)
    without = CircuitObserver(network(), PROBE, settings, seed=5)(view)
    assert repr(without.tables["corrected"]) == repr(observation.tables["corrected"])


def test_random_methods_get_another_seed_for_the_second_search(view: RoundView) -> None:
    settings = CircuitSettings(method="random", controls=2)
    halves = Samples(PROBE.discovery.inputs, PROBE.discovery.labels)
    same = Probe(halves, halves, NAMES)  # the halves do not differ, so only the seed does
    observation = CircuitObserver(network(), same, settings, seed=5, ceiling=True)(view)
    values = [row[3] for row in observation.tables["ceiling"].rows if row[2] == "all"]
    assert all(value < 1 for value in values)
    again = CircuitObserver(network(), same, settings, seed=5, ceiling=True)(view)
    assert repr(again.tables["ceiling"]) == repr(observation.tables["ceiling"])  # NaN is not NaN


def test_without_a_ceiling_nothing_else_changes(view: RoundView) -> None:
    bare = CircuitObserver(network(), PROBE, SETTINGS, seed=5)(view)
    full = CircuitObserver(network(), PROBE, SETTINGS, seed=5, ceiling=True)(view)
    assert set(full.tables) - set(bare.tables) == {"ceiling", "corrected"}
    for name in set(bare.tables) - {"seconds"}:
        assert repr(bare.tables[name]) == repr(full.tables[name])
    for name, array in bare.arrays.items():
        np.testing.assert_array_equal(array, full.arrays[name])


def test_a_class_that_the_second_search_does_not_find_is_nan() -> None:
    average = model_circuits("global", ONE, masks("1100"), None)
    again = ceilings(average.masks, masks("0000"), found=torch.tensor([False]))
    assert all(math.isnan(value) for row in ceiling_table(again).rows for value in row[3:])
    client = model_circuits("0", ONE, masks("1100"), None)
    (row, _) = corrected_table(round_of(average, {"0": client}), again).rows
    assert row[3] == pytest.approx(1.0)
    assert math.isnan(row[4])
    assert math.isnan(row[5])
