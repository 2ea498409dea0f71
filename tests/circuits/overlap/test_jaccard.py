from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcircuit.circuits.circuit import Circuit, Site
from fedcircuit.circuits.overlap.chance import chance_level
from fedcircuit.circuits.overlap.jaccard import (
    Side,
    all_overlaps,
    iou,
    layer_overlaps,
    paired_overlaps,
)

SITES = (Site("a", 3, 1, "a"), Site("b", 4, -1, "b"))
UNITS = 7


def circuit(**units: str) -> Circuit:
    """Circuit from one string of 0 and 1 a site."""
    return Circuit({k: torch.tensor([c == "1" for c in v]) for k, v in units.items()})


def rows(*texts: str) -> torch.Tensor:
    return torch.tensor([[c == "1" for c in text] for text in texts])


def enumerated(pools, sizes_a, sizes_b, observed):
    """Expected IoU and p-value by going through every pair of circuits."""
    layers_a = [list(combinations(range(n), k)) for n, k in zip(pools, sizes_a, strict=True)]
    layers_b = [list(combinations(range(n), k)) for n, k in zip(pools, sizes_b, strict=True)]
    total = sum(sizes_a) + sum(sizes_b)
    jaccards, tails = [], []
    for a in product(*layers_a):
        for b in product(*layers_b):
            both = sum(len(set(x) & set(y)) for x, y in zip(a, b, strict=True))
            jaccards.append(both / (total - both))
            tails.append(both >= observed)
    return np.mean(jaccards), np.mean(tails)


def test_one_layer_by_hand() -> None:
    # pool 4, A two units, B three, one shared: union 4. Chance: the overlap is 1 or 2 with
    # C(2,1)C(2,2)/C(4,3) = 1/2 each, so E = (1/4 + 2/3) / 2 = 11/24, and p(>= 1) = 1.
    overlap = iou(circuit(x="1100"), circuit(x="0111"))
    assert overlap.iou == 1 / 4
    assert overlap.chance == pytest.approx(11 / 24)
    assert overlap.adjusted == pytest.approx((1 / 4 - 11 / 24) / (13 / 24))
    assert overlap.p_value == pytest.approx(1.0)
    assert (overlap.size_a, overlap.size_b, overlap.intersection, overlap.pool) == (2, 3, 1, 4)


def test_p_value_counts_the_observed_overlap_itself() -> None:
    # two single units of 5: they meet with probability 1/5
    assert iou(circuit(x="10000"), circuit(x="10000")).p_value == pytest.approx(1 / 5)
    assert iou(circuit(x="10000"), circuit(x="01000")).p_value == pytest.approx(1.0)


def test_layers_are_separate_and_summed_under_all() -> None:
    layers = layer_overlaps(circuit(a="110", b="1000"), circuit(a="100", b="0110"))
    assert list(layers) == ["a", "b", "all"]
    assert layers["a"].iou == 1 / 2
    assert layers["b"].iou == 0.0
    assert layers["all"].iou == 1 / 5
    assert layers["all"].pool == 7


@settings(max_examples=25)
@given(st.data())
def test_chance_level_equals_enumeration_of_all_circuits(data: st.DataObject) -> None:
    pools = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))
    sizes_a = [data.draw(st.integers(0, n)) for n in pools]
    sizes_b = [data.draw(st.integers(0, n)) for n in pools]
    if sum(sizes_a) + sum(sizes_b) == 0:
        sizes_a[0] = 1
    observed = data.draw(st.integers(0, sum(map(min, sizes_a, sizes_b))))
    level = chance_level(
        np.array([pools]), np.array([sizes_a]), np.array([sizes_b]), np.array([observed])
    )
    expected, p_value = enumerated(pools, sizes_a, sizes_b, observed)
    assert level.expected[0] == pytest.approx(expected)
    assert level.p_value[0] == pytest.approx(p_value)


@pytest.mark.parametrize(
    ("channels", "size", "published"), [(32, 6, 0.113), (64, 9, 0.078), (128, 6, 0.024)]
)
def test_chance_agrees_with_the_published_run(channels: int, size: int, published: float) -> None:
    # mean sizes 6.1 / 9.0 / 5.7 of the paper's IID run, whose mean E[J] are these
    level = chance_level(
        np.array([[channels]]), np.array([[size]]), np.array([[size]]), np.array([0])
    )
    assert level.expected[0] == pytest.approx(published, abs=0.004)


def test_tiny_tails_stay_positive() -> None:
    masks = torch.zeros(1, 400, dtype=torch.bool)
    masks[0, :100] = True
    table = paired_overlaps(Side(masks), Side(masks), [Site("x", 400, 1, "x")])
    # 1 / C(400, 100), which is near 1e-97
    assert 0 < table.p_value[0, -1] < 1e-90


masks_of_sites = st.lists(st.booleans(), min_size=UNITS, max_size=UNITS)


@given(masks_of_sites, masks_of_sites, masks_of_sites)
def test_overlap_is_symmetric_and_bounded(a, b, live) -> None:
    side_a, side_b = Side(torch.tensor([a]), live=live), Side(torch.tensor([b]), live=live)
    there, back = paired_overlaps(side_a, side_b, SITES), paired_overlaps(side_b, side_a, SITES)
    for name in ("iou", "chance", "adjusted", "p_value", "intersection", "pool"):
        np.testing.assert_allclose(getattr(there, name), getattr(back, name), atol=1e-12)
    known = ~np.isnan(there.iou)
    assert ((there.iou[known] >= 0) & (there.iou[known] <= 1)).all()
    assert ((there.p_value[known] > 0) & (there.p_value[known] <= 1)).all()
    assert (np.isnan(there.chance) == np.isnan(there.iou)).all()


@given(masks_of_sites.filter(any))
def test_a_circuit_overlaps_fully_with_itself(a) -> None:
    side = Side(torch.tensor([a]))
    table = paired_overlaps(side, side, SITES)
    assert table.iou[0, -1] == 1.0
    if not all(sum(part) in (0, len(part)) for part in (a[:3], a[3:])):
        assert table.adjusted[0, -1] == pytest.approx(1.0)


def test_adjusted_iou_is_zero_on_average_over_all_circuits() -> None:
    side_a = Side(np.array([[True, True, False, False, False]]))
    others = np.array([[i in pick for i in range(5)] for pick in combinations(range(5), 3)])
    table = all_overlaps(side_a, Side(others), [Site("x", 5, 1, "x")])
    assert table.adjusted[..., -1].mean() == pytest.approx(0.0, abs=1e-12)


def test_two_empty_circuits_have_no_overlap() -> None:
    overlap = iou(circuit(x="000"), circuit(x="000"))
    assert all(np.isnan([overlap.iou, overlap.chance, overlap.adjusted, overlap.p_value]))
    assert (overlap.size_a, overlap.pool) == (0, 3)


def test_an_empty_circuit_shares_nothing_with_a_full_one() -> None:
    overlap = iou(circuit(x="000"), circuit(x="011"))
    assert (overlap.iou, overlap.chance, overlap.adjusted, overlap.p_value) == (0, 0, 0, 1)


def test_circuits_that_fill_the_pool_say_nothing() -> None:
    overlap = iou(circuit(x="111", y="1"), circuit(x="111", y="1"))
    assert (overlap.iou, overlap.chance, overlap.p_value) == (1.0, 1.0, 1.0)
    assert np.isnan(overlap.adjusted)


def test_units_that_are_not_live_do_not_count() -> None:
    a, b = circuit(x="11010"), circuit(x="10011")
    dead_last = circuit(x="11110")
    assert iou(a, b, dead_last) == iou(circuit(x="1101"), circuit(x="1001"))
    assert iou(a, b).pool == 5


def test_a_circuit_that_was_not_found_overlaps_with_nothing() -> None:
    side = Side(rows("1100000", "0000000"), found=torch.tensor([True, False]))
    table = paired_overlaps(side, Side(rows("1000000", "1000000")), SITES)
    assert table.iou[0, -1] == 0.5
    for name in ("iou", "chance", "adjusted", "p_value", "size_a", "size_b", "pool"):
        assert np.isnan(getattr(table, name)[1]).all()
    assert table.at(1) is None
    found = table.at(0)
    assert found is not None
    assert found["all"].intersection == 1


@given(st.lists(masks_of_sites, min_size=1, max_size=4), st.integers(0, 1000))
def test_all_pairs_are_the_pairs_one_by_one(masks, seed) -> None:
    random = torch.Generator().manual_seed(seed)

    def draw(n: int) -> torch.Tensor:
        return torch.rand(n, UNITS, generator=random) < 0.6

    n = len(masks)
    a = Side(torch.tensor(masks), found=torch.rand(n, generator=random) < 0.8, live=draw(n))
    b = Side(draw(3), live=draw(3))
    square = all_overlaps(a, b, SITES)
    first, second = torch.arange(n).repeat_interleave(3), torch.arange(3).repeat(n)
    paired = paired_overlaps(
        Side(a.masks[first], found=a.found[first], live=a.live[first]),
        Side(b.masks[second], live=b.live[second]),
        SITES,
    )
    for name in ("iou", "chance", "adjusted", "p_value", "size_a", "size_b", "pool"):
        flat = getattr(square, name).reshape(n * 3, 3)
        np.testing.assert_allclose(flat, getattr(paired, name), atol=1e-12)


def test_the_pool_of_two_models_is_what_is_live_in_either() -> None:
    a = Side(rows("1100000"), live=rows("1110000"))
    b = Side(rows("0110000"), live=rows("0111100"))
    found = paired_overlaps(a, b, SITES).at(0)
    assert found is not None
    assert (found["a"].pool, found["b"].pool, found["all"].pool) == (3, 2, 5)


def test_the_joint_pool_does_not_understate_what_two_random_circuits_share() -> None:
    live_a, live_b = {0, 1, 2, 3}, {2, 3, 4, 5, 6}
    shared = [
        len(set(a) & set(b)) for a in combinations(live_a, 2) for b in combinations(live_b, 3)
    ]
    expected_with_joint_pool = 2 * 3 / len(live_a | live_b)
    assert np.mean(shared) < expected_with_joint_pool


def test_a_layer_without_live_units_has_no_overlap_and_spoils_none() -> None:
    layers = layer_overlaps(
        circuit(a="110", b="1000"), circuit(a="100", b="0000"), circuit(a="111", b="0000")
    )
    assert np.isnan(layers["b"].iou)
    assert layers["b"].pool == 0
    assert layers["all"].chance == layers["a"].chance
    assert layers["all"].p_value == layers["a"].p_value


def test_different_sites_are_refused() -> None:
    with pytest.raises(ValueError, match="same sites"):
        iou(circuit(x="11"), circuit(y="11"))
    with pytest.raises(ValueError, match="same sites"):
        iou(circuit(x="11"), circuit(x="11"), live=circuit(x="111"))


def test_circuits_larger_than_their_pool_are_refused() -> None:
    with pytest.raises(ValueError, match="more units in a layer than the pool"):
        chance_level(np.array([[2]]), np.array([[3]]), np.array([[1]]), np.array([1]))


def test_overlap_coefficient_by_hand() -> None:
    # A 2 units and B 3 of 4 in one layer, 1 each of 3 in the other: 1 and 1 in both
    a, b = Side(rows("1100010"), live=rows("1111111")), Side(rows("0111010"))
    sites = [Site("a", 4, 1, "a"), Site("b", 3, 1, "b")]
    table = paired_overlaps(a, b, sites)
    assert table.coefficient[0].tolist() == [1 / 2, 1.0, 2 / 3]
    # by chance 2 * 3 / 4 units in the first layer, 1 * 1 / 3 in the second
    expected = [(6 / 4) / 2, 1 / 3, (6 / 4 + 1 / 3) / 3]
    assert table.coefficient_chance[0] == pytest.approx(expected)
    assert table.intersection[0].tolist() == [1, 1, 2]  # left as it was


@given(masks_of_sites, masks_of_sites, masks_of_sites)
def test_overlap_coefficient_is_at_least_the_iou_and_undefined_with_an_empty_circuit(
    a, b, live
) -> None:
    table = paired_overlaps(
        Side(torch.tensor([a]), live=live), Side(torch.tensor([b]), live=live), SITES
    )
    empty = np.minimum(table.size_a, table.size_b) == 0
    assert (np.isnan(table.coefficient) == empty).all()
    assert (np.isnan(table.coefficient_chance) == empty).all()
    assert (table.coefficient[~empty] >= table.iou[~empty]).all()


def test_pairs_without_an_iou_are_counted_by_layer() -> None:
    side = Side(rows("1100000", "0001000", "1000000"), found=torch.tensor([True, True, False]))
    table = all_overlaps(side, Side(rows("1000000")), SITES)
    # b is empty on both sides in the first pair, and the third was not found
    assert table.n_undefined.tolist() == [1, 2, 1]
