"""Fisher, TIES, covered averaging and conflict projection by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_helpers import fedavg, round_of_clients
from rule_rounds import average_of, setting, whole_round
from torch import nn
from toy_federation import bits

from fedcircuit import messages
from fedcircuit.aggregation import NO_STATE, RuleError, Said, Setting, Updates
from fedcircuit.aggregation.layers import ConflictProjection, CoveredAverage, Fisher, Ties
from fedcircuit.aggregation.layers.conflict_projection import projection
from fedcircuit.aggregation.layers.ties import merged
from fedcircuit.aggregation.tensors import packed_tensors


def with_fisher(*values: list[float]) -> Updates:
    """Clients at 0 and 4 in two entries, shares 1/4 and 3/4."""
    said: list[dict[str, Said]] = [
        {messages.FISHER: packed_tensors({"w": np.array(own)})} for own in values
    ]
    weights = [{"w": np.array([0.0, 0.0])}, {"w": np.array([4.0, 4.0])}]
    return round_of_clients({"w": np.zeros(2)}, weights, said, [1, 3])


def test_fisher_weights_entries_by_share_and_knowledge() -> None:
    updates = with_fisher([3.0, 0.0], [1.0, 2.0])
    got, _ = Fisher(damping=0.0)(updates, fedavg(updates), Setting(), NO_STATE)
    # entry 0: 1/4 * 3 against 3/4 * 1: even; entry 1: the second client alone
    np.testing.assert_allclose(got["w"], [2.0, 4.0])
    damped, _ = Fisher(damping=2.0)(updates, fedavg(updates), Setting(), NO_STATE)
    # mu = 2 * mean(3, 0, 1, 2) = 3: entry 1 is 1/4 * 3 against 3/4 * 5
    np.testing.assert_allclose(damped["w"][1], 4 * 15 / 18)


def test_fisher_tends_to_the_average_with_damping_and_is_it_without_knowledge() -> None:
    updates = with_fisher([3.0, 0.0], [1.0, 2.0])
    far, _ = Fisher(damping=1e9)(updates, fedavg(updates), Setting(), NO_STATE)
    np.testing.assert_allclose(far["w"], [3.0, 3.0], rtol=1e-6)
    none = with_fisher([0.0, 0.0], [0.0, 0.0])
    odd = {"w": np.array([7.0, 8.0])}
    assert bits(Fisher()(none, odd, Setting(), NO_STATE)[0]) == bits(odd)


def test_fisher_refuses_negative_values() -> None:
    updates = with_fisher([3.0, 0.0], [-1.0, 2.0])
    with pytest.raises(RuleError, match="client b: needs the diagonal Fisher .* >= 0"):
        Fisher()(updates, fedavg(updates), Setting(), NO_STATE)


def test_ties_trims_elects_and_averages_those_that_agree() -> None:
    before = {"w": np.array([1.0, 1.0, 1.0, 1.0])}
    moves = ([4.0, -3.0, 0.1, 0.0], [2.0, 5.0, 0.0, -0.2], [-5.0, 6.0, 0.3, 0.1])
    updates = round_of_clients(before, [{"w": 1.0 + np.array(own)} for own in moves])
    got, _ = Ties(keep=0.5)(updates, fedavg(updates), Setting(), NO_STATE)
    # entries 2 and 3 are trimmed; 0: 4 + 2 > 5, mean of 4 and 2; 1: mean of 5 and 6
    np.testing.assert_allclose(got["w"], [4.0, 6.5, 1.0, 1.0])
    half, _ = Ties(keep=0.5, scale=0.5)(updates, fedavg(updates), Setting(), NO_STATE)
    np.testing.assert_allclose(half["w"], [2.5, 3.75, 1.0, 1.0])


def test_ties_elects_by_shares() -> None:
    shares = np.array([0.2, 0.8])
    np.testing.assert_allclose(merged(np.array([[3.0], [-1.0]]), shares), [-1.0])
    np.testing.assert_allclose(merged(np.array([[4.0], [-1.0]]), shares), [0.0])  # a tie


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6))
def test_ties_gives_zero_or_a_value_of_the_elected_sign_within_those_that_agree(
    values: list[float],
) -> None:
    shares = np.full(len(values), 1 / len(values))
    (got,) = merged(np.array(values)[:, None], shares)
    agree = [v for v in values if np.sign(v) == np.sign(got) and v != 0]
    assert got == 0 or min(agree) - 1e-9 <= got <= max(agree) + 1e-9


def test_projection_takes_from_each_what_the_other_undoes_at_once() -> None:
    movement = np.array([[[1.0, 0.0]], [[-1.0, 1.0]], [[0.0, 3.0]]])  # three clients, one unit
    got = projection(movement, np.array([[True], [True], [False]]))
    # the third owns no circuit there; <a, b> = -1, |a|^2 = 1, |b|^2 = 2, K - 1 = 2
    np.testing.assert_allclose(got[0, 0], [-0.25, 0.25])
    np.testing.assert_allclose(got[1, 0], [0.5, 0.0])
    np.testing.assert_allclose(got[2, 0], [0.0, 0.0])


def small() -> tuple[Updates, Setting]:
    """Two units, two classes; the clients move unit 0 against each other."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    before = {"0.weight": np.zeros((2, 1)), "0.bias": np.zeros(2),
              "2.weight": np.zeros((2, 2)), "2.bias": np.zeros(2)}  # fmt: skip
    one, other = dict(before), dict(before)
    one["0.weight"], one["0.bias"] = np.array([[1.0], [2.0]]), np.array([0.0, 4.0])
    other["0.weight"], other["0.bias"] = np.array([[-1.0], [6.0]]), np.array([1.0, 0.0])
    one["2.weight"], one["2.bias"] = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 2.0])
    other["2.weight"], other["2.bias"] = np.array([[5.0, 6.0], [7.0, 8.0]]), np.array([3.0, 6.0])
    said: list[dict[str, Said]] = [
        {messages.CLASS_COUNTS: [3, 1]}, {messages.CLASS_COUNTS: [1, 1]}
    ]  # fmt: skip
    masks = np.array([[[1, 0], [0, 0]], [[0, 0], [1, 1]]], dtype=bool)
    updates = round_of_clients(before, [one, other], said, [4, 2])
    return updates, Setting(2, model, None, masks)


def test_conflict_projection_changes_the_units_of_both_alone() -> None:
    updates, given_ = small()
    average = fedavg(updates)
    got, _ = ConflictProjection()(updates, average, given_, NO_STATE)
    # unit 0: a = (1, 0), b = (-1, 1): a' = (1/2, 1/2), b' = (0, 1); by shares 2/3 and 1/3
    np.testing.assert_allclose(got["0.weight"][0], [1 / 3])
    np.testing.assert_allclose(got["0.bias"][0], 2 / 3)
    assert got["0.weight"][1] == average["0.weight"][1]
    assert got["2.weight"].tobytes() == average["2.weight"].tobytes()


def test_everywhere_projects_units_outside_circuits_too() -> None:
    updates, given_ = small()
    assert given_.masks is not None
    none = replace(given_, masks=np.zeros_like(given_.masks))
    average = fedavg(updates)
    assert bits(ConflictProjection()(updates, average, none, NO_STATE)[0]) == bits(average)
    one, _ = ConflictProjection(everywhere=True)(updates, average, none, NO_STATE)
    other, _ = ConflictProjection()(updates, average, given_, NO_STATE)
    assert bits(one) == bits(other)  # unit 1 has no conflict


def test_a_client_that_stayed_where_it_was_has_no_conflict() -> None:
    movement = np.array([[[1.0, 0.0]], [[0.0, 0.0]], [[-2.0, 1.0]]])
    got = projection(movement, np.ones((3, 1), dtype=bool))
    np.testing.assert_array_equal(got[1], 0.0)
    assert got[0].any()


def test_covered_average_that_is_off_needs_nothing() -> None:
    updates, _ = small()
    average = fedavg(updates)
    assert CoveredAverage(lam=0.0)(updates, average, Setting(), NO_STATE)[0] is average


def test_covered_average_by_hand() -> None:
    updates, given_ = small()
    got, _ = CoveredAverage(lam=1.0, eps=0.1)(updates, fedavg(updates), given_, NO_STATE)
    # q: class 0 (3/4, 1/4), class 1 (1/2, 1/2). Owned: client a (3/4, 0), client b (1/2, 1/2);
    # mean 7/16, so 0.04375 more each
    a, b = 0.75 + 0.04375, 0.5 + 0.04375
    np.testing.assert_allclose(got["0.weight"][0], (a - b) / (a + b))
    c, d = 0.04375, 0.54375
    np.testing.assert_allclose(got["0.weight"][1], (2 * c + 6 * d) / (c + d))
    np.testing.assert_allclose(got["0.bias"][1], 4 * c / (c + d))
    # head row 0, column 0: 3/4 * 1.1 against 1/4 * 0.1; row 1: 1/2 * 0.1 against 1/2 * 1.1
    e, f = 0.75 * 1.1, 0.25 * 0.1
    np.testing.assert_allclose(got["2.weight"][0, 0], (1 * e + 5 * f) / (e + f))
    np.testing.assert_allclose(got["2.weight"][1, 1], (4 * 0.1 + 8 * 1.1) / 1.2)
    np.testing.assert_allclose(got["2.bias"], [1.5, 4.0])


def test_covered_average_goes_from_the_average_by_lam() -> None:
    updates, given_ = whole_round(), setting()
    average = average_of(updates)
    whole, _ = CoveredAverage(lam=1.0)(updates, average, given_, NO_STATE)
    part, _ = CoveredAverage(lam=0.25)(updates, average, given_, NO_STATE)
    for name in ("0.weight", "0.bias", "3.weight", "3.bias"):
        expected = 0.75 * average[name] + 0.25 * whole[name]
        np.testing.assert_allclose(part[name], expected, rtol=1e-5, atol=1e-6)


def test_circuits_that_do_not_fit_the_model_are_refused() -> None:
    updates, given_ = small()
    odd = replace(given_, masks=np.zeros((2, 2, 5), dtype=bool))
    with pytest.raises(RuleError, match="the model has 2 units, the circuits have 5"):
        ConflictProjection()(updates, fedavg(updates), odd, NO_STATE)
    other = replace(given_, masks=np.zeros((3, 2, 2), dtype=bool))
    with pytest.raises(RuleError, match="of 2 clients, got"):
        CoveredAverage(lam=1.0)(updates, fedavg(updates), other, NO_STATE)


@pytest.mark.parametrize(
    "make",
    [lambda: Fisher(damping=-1.0), lambda: Ties(keep=0.0), lambda: Ties(scale=0.0),
     lambda: CoveredAverage(lam=1.5), lambda: CoveredAverage(eps=0.0)],
)  # fmt: skip
def test_options_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="must"):
        make()  # type: ignore[operator]
