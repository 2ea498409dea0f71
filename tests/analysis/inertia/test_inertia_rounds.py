"""Layer inertia over several rounds, where it is undefined, and what is refused."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inertia_examples import finite_weights, only, weights

from fedcircuit.analysis.inertia.layer_inertia import (
    EPS,
    LayerInertia,
    RoundWeights,
    inertia_index,
    inertia_over_rounds,
    round_inertia,
)
from fedcircuit.analysis.inertia.movement import ClientUpdate
from fedcircuit.learning.weights import Weights

# --- undefined ------------------------------------------------------------------------------------


def test_a_layer_of_zeros_has_no_drift_and_no_cosine() -> None:
    zero, moved = weights(w=[[0.0, 0.0]]), weights(w=[[3.0, 4.0]])
    from_zero = only(round_inertia(RoundWeights(4, zero, moved), zero))
    assert math.isnan(from_zero.drift)
    assert math.isnan(from_zero.cosine)
    assert from_zero.r == pytest.approx(5.0 / EPS)  # nothing to compare with: u / eps
    to_zero = only(round_inertia(RoundWeights(4, moved, zero), moved))
    assert to_zero.drift == 1.0
    assert math.isnan(to_zero.cosine)


@given(w=finite_weights(), factor=st.sampled_from([-3.0, -1.0, 1.0, 3.0]))
def test_the_cosine_of_parallel_weights_stays_in_its_range(w: Weights, factor: float) -> None:
    after = {name: values * factor for name, values in w.items()}
    for row in round_inertia(RoundWeights(4, w, after), w).layers:
        if not math.isnan(row.cosine):
            assert abs(row.cosine) <= 1.0
            assert row.cosine == pytest.approx(math.copysign(1.0, factor), abs=1e-12)


def test_the_index_is_undefined_without_middle_or_moving_ends() -> None:
    def rows(*movements: float) -> list[LayerInertia]:
        return [LayerInertia("x", r, r, r, r, r, r) for r in movements]

    assert math.isnan(inertia_index(rows(0.1, 0.2)))
    assert math.isnan(inertia_index([]))
    assert math.isnan(inertia_index(rows(0.0, 0.2, 0.0)))
    assert math.isnan(inertia_index(rows(0.1, math.nan, 0.1, 0.1)))
    assert inertia_index(rows(0.0, 0.0, 0.1)) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_give_undefined_measures(bad: float) -> None:
    fine, broken = weights(w=[[1.0, 2.0]]), weights(w=[[bad, 2.0]])
    clients = [ClientUpdate(1, broken), ClientUpdate(1, fine)]
    row = only(round_inertia(RoundWeights(4, fine, broken, clients), fine))
    measures = (row.u, row.r, row.drift, row.cosine, row.m, row.kappa)
    assert all(math.isnan(value) for value in measures)


# --- several rounds -------------------------------------------------------------------------------


def _history() -> list[Weights]:
    return [weights(w=[[float(t), 1.0]]) for t in (1, 2, 4, 7, 11, 16)]


def _rounds(history: list[Weights], start: int = 1) -> list[RoundWeights]:
    pairs = list(enumerate(pairwise(history), start=1))
    return [RoundWeights(number, *pair) for number, pair in pairs if number >= start]


def test_drift_is_from_the_weights_after_the_third_round() -> None:
    found = [only(result) for result in inertia_over_rounds(_rounds(_history()))]
    assert [row.u for row in found] == [1, 2, 3, 4, 5]
    assert [math.isnan(row.drift) for row in found] == [True, True, False, False, False]
    assert [math.isnan(row.cosine) for row in found] == [True, True, False, False, False]
    size = math.hypot(7, 1)
    assert [row.drift for row in found[2:]] == pytest.approx([0, 4 / size, 9 / size])
    assert found[2].cosine == pytest.approx(1.0, abs=1e-15)
    assert found[4].cosine == pytest.approx((7 * 16 + 1) / (size * math.hypot(16, 1)))


def test_rounds_that_go_on_later_need_the_snapshot() -> None:
    history = _history()
    whole = list(inertia_over_rounds(_rounds(history)))
    assert list(inertia_over_rounds(_rounds(history, 5), snapshot=history[3])) == whole[4:]
    (without,) = inertia_over_rounds(_rounds(history, 5))
    assert math.isnan(only(without).drift)


def test_a_snapshot_says_nothing_of_rounds_before_it() -> None:
    history = _history()
    found = inertia_over_rounds(_rounds(history)[:2], snapshot=history[3])
    assert all(math.isnan(only(result).drift) for result in found)


def test_another_round_and_other_layers_can_be_asked_for() -> None:
    history = [{**w, "other": w["w"] * 2} for w in _history()]
    found = list(inertia_over_rounds(_rounds(history), snapshot_round=1, layers=["other"]))
    assert [row.layer for result in found for row in result.layers] == ["other"] * 5
    assert [only(result).drift for result in found[:2]] == pytest.approx([0, 4 / math.hypot(4, 2)])


# --- refusals -------------------------------------------------------------------------------------


def test_weights_that_do_not_fit_are_refused() -> None:
    w, other = weights(w=[[1.0, 2.0]]), weights(w=[[1.0]])
    with pytest.raises(ValueError, match=r"'w' has shape \(1, 1\), before the round .* \(1, 2\)"):
        round_inertia(RoundWeights(1, w, other))
    with pytest.raises(ValueError, match=r"'w' has shape \(1, 1\)"):
        round_inertia(RoundWeights(1, w, w, [ClientUpdate(1, other)]))
    with pytest.raises(ValueError, match=r"no tensor 'w' among the weights \['v'\]"):
        round_inertia(RoundWeights(1, w, weights(v=[[1.0]])))
    with pytest.raises(ValueError, match="no tensor 'x'"):
        round_inertia(RoundWeights(1, w, w), layers=["x"])
    with pytest.raises(ValueError, match="num_examples must be >= 0, got -1"):
        round_inertia(RoundWeights(1, w, w, [ClientUpdate(-1, w)]))


def test_nothing_that_is_given_is_changed() -> None:
    given_weights = {"w": np.array([[1.0, 2.0]])}  # float64, which needs no copy
    end = {"w": np.array([[4.0, 6.0]])}
    for _ in range(2):
        clients = [ClientUpdate(3, end), ClientUpdate(3, end)]
        row = only(round_inertia(RoundWeights(3, given_weights, end, clients), given_weights))
        assert (row.u, row.m, row.kappa) == (5.0, 5.0, 1.0)
    assert given_weights["w"].tolist() == [[1.0, 2.0]]
    assert end["w"].tolist() == [[4.0, 6.0]]
