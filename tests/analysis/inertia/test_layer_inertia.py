"""The measures of layer inertia: by hand, by their laws, and by a slow route of plain numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inertia_examples import SHAPES, finite_weights, only, weights
from torch import nn

from fedcircuit.analysis.inertia.layer_inertia import (
    EPS,
    LayerInertia,
    RoundWeights,
    inertia_index,
    layer_names,
    round_inertia,
    share_inert,
)
from fedcircuit.analysis.inertia.movement import ClientUpdate
from fedcircuit.learning.weights import Weights, get_weights


def clients_of(*changes: Weights, before: Weights, counts: tuple[int, ...]) -> list[ClientUpdate]:
    return [
        ClientUpdate(n, {name: before[name] + change[name] for name in before})
        for n, change in zip(counts, changes, strict=True)
    ]


def average(clients: list[ClientUpdate]) -> Weights:
    """Sample-weighted, in float64."""
    total = sum(client.num_examples for client in clients)
    return {
        name: sum(c.num_examples * c.end[name].astype(np.float64) for c in clients) / total
        for name in clients[0].end
    }


# --- worked by hand -------------------------------------------------------------------------------


def test_a_round_worked_by_hand() -> None:
    before = weights(w=[[3.0, 4.0], [0.0, 0.0]])  # norm 5
    after = weights(w=[[3.0, 4.0], [2.0, 1.5]])  # moved by 2.5, norm sqrt(31.25)
    snapshot = weights(w=[[0.0, 4.0], [2.0, 0.0]])  # norm sqrt(20)
    clients = [
        ClientUpdate(30, weights(w=[[3.0, 4.0], [4.0, 0.0]])),  # moved by 4
        ClientUpdate(10, weights(w=[[3.0, 4.0], [0.0, 3.0]])),  # moved by 3
    ]
    row = only(round_inertia(RoundWeights(7, before, after, clients), snapshot))
    assert row.layer == "w"
    assert row.u == 2.5
    assert row.r == pytest.approx(0.5, rel=1e-11)
    assert row.drift == pytest.approx(math.sqrt((9 + 2.25) / 20))
    assert row.cosine == pytest.approx((16 + 4) / math.sqrt(31.25 * 20))
    assert row.m == pytest.approx(0.75 * 4 + 0.25 * 3)
    assert row.kappa == pytest.approx(math.hypot(0.75 * 4, 0.25 * 3) / 3.75)


def test_the_index_worked_by_hand() -> None:
    moved = {"first": 0.4, "a": 0.1, "b": 0.3, "c": 0.02, "last": 0.6}
    rows = [LayerInertia(name, r, r, 0.0, 1.0, r, 1.0) for name, r in moved.items()]
    assert inertia_index(rows) == pytest.approx(0.1 / 0.5)  # medians of three and of two


def test_only_weights_count_in_the_index() -> None:
    before = {"w0": (2, 2), "b0": (2,), "w1": (2, 2), "b1": (2,), "w2": (1, 2), "b2": (1,)}
    step = {"w0": 2.0, "b0": 50.0, "w1": 3.0, "b1": 70.0, "w2": 6.0, "b2": 90.0}
    ones = {name: np.ones(shape) for name, shape in before.items()}
    after = {name: ones[name] * (1 + step[name]) for name in ones}
    result = round_inertia(RoundWeights(1, ones, after))
    assert [row.layer for row in result.layers] == list(before)
    assert [row.is_weight for row in result.layers] == [True, False] * 3
    assert result.index == pytest.approx(3.0 / 4.0)


def test_the_share_of_inert_rounds_counts_rounds_with_an_index_alone() -> None:
    assert share_inert([0.4, math.nan, 0.5, 0.1, 0.9]) == 0.5  # 0.5 itself is not below
    assert share_inert([0.4, 0.5, 0.7], limit=0.6) == pytest.approx(2 / 3)
    assert math.isnan(share_inert([math.nan]))
    assert math.isnan(share_inert([]))


# --- the tests of the specification ---------------------------------------------------------------


@given(before=finite_weights(), change=finite_weights(), n=st.tuples(*[st.integers(1, 90)] * 3))
def test_identical_clients_agree(before: Weights, change: Weights, n: tuple[int, ...]) -> None:
    clients = clients_of(change, change, change, before=before, counts=n)
    for row in round_inertia(RoundWeights(1, before, before, clients)).layers:
        if row.m:
            assert row.kappa == pytest.approx(1.0, abs=1e-12)
            assert row.kappa <= 1.0
        else:
            assert math.isnan(row.kappa)


@given(before=finite_weights(), n=st.integers(1, 90))
def test_opposite_clients_of_equal_weight_cancel_and_nothing_moves(before: Weights, n: int) -> None:
    change = {name: np.full(shape, 0.5, np.float32) for name, shape in SHAPES.items()}
    opposite = {name: -values for name, values in change.items()}
    exact = {name: np.round(values * 4) / 4 for name, values in before.items()}
    clients = clients_of(change, opposite, before=exact, counts=(n, n))
    for row in round_inertia(RoundWeights(1, exact, average(clients), clients)).layers:
        assert (row.kappa, row.r, row.u) == (0.0, 0.0, 0.0)
        assert row.m == pytest.approx(0.5 * math.sqrt(math.prod(SHAPES[row.layer])))


def test_a_frozen_layer_does_not_move_and_has_no_coherence() -> None:
    frozen = weights(w=[[0.3, -1.7], [2.2, 0.1]])
    clients = [ClientUpdate(5, frozen), ClientUpdate(8, frozen)]
    row = only(round_inertia(RoundWeights(9, frozen, frozen, clients), frozen))
    assert (row.u, row.r, row.drift, row.m) == (0.0, 0.0, 0.0, 0.0)
    assert row.cosine == pytest.approx(1.0, abs=1e-15)
    assert math.isnan(row.kappa)  # neither 0 nor 1


@given(
    before=finite_weights(), after=finite_weights(), old=finite_weights(), power=st.integers(-6, 6)
)
def test_one_factor_on_everything_changes_no_relative_measure(
    before: Weights, after: Weights, old: Weights, power: int
) -> None:
    def scaled(given: Weights) -> Weights:
        return {name: values * np.float32(2.0**power) for name, values in given.items()}

    plain = round_inertia(RoundWeights(5, before, after), old).layers
    larger = round_inertia(
        RoundWeights(5, scaled(before), scaled(after)), scaled(old), eps=EPS * 2.0**power
    ).layers
    for one, other in zip(plain, larger, strict=True):
        assert other.u == pytest.approx(one.u * 2.0**power, rel=1e-9)
        for name in ("r", "drift", "cosine"):
            expected = pytest.approx(getattr(one, name), rel=1e-9, abs=1e-12, nan_ok=True)
            assert getattr(other, name) == expected


@given(
    before=finite_weights(),
    changes=st.tuples(*[finite_weights()] * 3),
    n=st.tuples(*[st.integers(1, 90)] * 3),
)
def test_movement_is_coherence_times_client_movement_for_plain_averaging(
    before: Weights, changes: tuple[Weights, ...], n: tuple[int, ...]
) -> None:
    clients = clients_of(*changes, before=before, counts=n)
    for row in round_inertia(RoundWeights(1, before, average(clients), clients)).layers:
        if row.m == 0:
            assert row.u == pytest.approx(0.0, abs=1e-12)
        else:
            assert row.u == pytest.approx(row.kappa * row.m, rel=1e-6, abs=1e-9)
            assert 0.0 <= row.kappa <= 1.0


def test_integer_buffers_and_running_statistics_are_no_layers() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    before = {**get_weights(model), "index": np.arange(4)}
    expected = ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= set(before)
    assert list(layer_names(before)) == expected
    assert [row.layer for row in round_inertia(RoundWeights(1, before, before)).layers] == expected


# --- clients --------------------------------------------------------------------------------------


def test_a_masked_download_is_measured_from_what_the_client_received() -> None:
    before = weights(w=[[6.0, 8.0]])
    received = weights(w=[[6.0, 0.0]])
    clients = [
        ClientUpdate(1, weights(w=[[6.0, 3.0]]), start=received),  # moved by 3, not by 5
        ClientUpdate(3, weights(w=[[6.0, 9.0]])),  # moved by 1
    ]
    result = round_inertia(RoundWeights(2, before, before, clients))
    row = only(result)
    assert row.m == pytest.approx(0.25 * 3 + 0.75 * 1)
    assert row.kappa == pytest.approx(1.0)
    assert result.start == "received"
    assert row.u == 0.0  # so movement is not kappa * m


def test_the_start_is_told_wherever_the_masked_client_stands() -> None:
    w = weights(w=[[1.0]])
    plain, masked = ClientUpdate(1, w), ClientUpdate(1, w, start=w)

    def start(*clients: ClientUpdate) -> str | None:
        return round_inertia(RoundWeights(1, w, w, clients)).start

    assert [start(), start(plain), start(plain, plain)] == [None, "global", "global"]
    assert [start(masked, plain), start(plain, masked)] == ["received", "received"]


def test_without_visible_clients_their_measures_are_undefined() -> None:
    row = only(round_inertia(RoundWeights(1, weights(w=[[1.0]]), weights(w=[[2.0]]))))
    assert math.isnan(row.m)
    assert math.isnan(row.kappa)
    assert row.u == 1.0


def test_clients_without_samples_have_no_mean() -> None:
    w, other = weights(w=[[1.0]]), weights(w=[[4.0]])
    row = only(round_inertia(RoundWeights(1, w, w, [ClientUpdate(0, other)])))
    assert math.isnan(row.m)
    assert math.isnan(row.kappa)


def test_clients_are_walked_once() -> None:
    w = weights(w=[[1.0, 2.0]])
    updates = iter([ClientUpdate(1, weights(w=[[2.0, 2.0]])), ClientUpdate(1, w)])
    assert only(round_inertia(RoundWeights(1, w, w, updates))).m == 0.5


def test_random_clients_have_a_coherence_of_one_over_the_root_of_their_number() -> None:
    rng = np.random.default_rng(4)
    before = {"w": np.zeros((200, 100))}
    clients = [ClientUpdate(3, {"w": rng.normal(size=(200, 100))}) for _ in range(16)]
    row = only(round_inertia(RoundWeights(1, before, before, clients)))
    assert row.kappa == pytest.approx(0.25, rel=0.02)


# --- an independent slow route --------------------------------------------------------------------


def _norm(numbers: list[float]) -> float:
    return math.sqrt(math.fsum(x * x for x in numbers))


def _numbers(values: np.ndarray) -> list[float]:
    return [float(x) for x in values.flatten().tolist()]


@given(
    before=finite_weights(),
    after=finite_weights(),
    old=finite_weights(),
    ends=st.tuples(*[finite_weights()] * 3),
    n=st.tuples(*[st.integers(0, 90)] * 3),
)
def test_all_measures_equal_sums_of_plain_numbers(
    before: Weights, after: Weights, old: Weights, ends: tuple[Weights, ...], n: tuple[int, ...]
) -> None:
    clients = [ClientUpdate(*pair) for pair in zip(n, ends, strict=True)]
    result = round_inertia(RoundWeights(1, before, after, clients), old)
    for row in result.layers:
        a, b, s = (_numbers(w[row.layer]) for w in (before, after, old))
        deltas = [[x - y for x, y in zip(_numbers(e[row.layer]), a, strict=True)] for e in ends]
        u = _norm([x - y for x, y in zip(b, a, strict=True)])
        drift = cosine = m = kappa = math.nan
        if _norm(s):
            drift = _norm([x - y for x, y in zip(b, s, strict=True)]) / _norm(s)
        if _norm(s) and _norm(b):
            cosine = math.fsum(x * y for x, y in zip(b, s, strict=True)) / (_norm(b) * _norm(s))
        if sum(n):
            p = [count / sum(n) for count in n]
            m = math.fsum(q * _norm(d) for q, d in zip(p, deltas, strict=True))
            mean = [
                math.fsum(q * d[i] for q, d in zip(p, deltas, strict=True)) for i in range(len(a))
            ]
            kappa = _norm(mean) / m if m else math.nan
        expected = [u, u / (_norm(a) + EPS), drift, cosine, m, kappa]
        got = [row.u, row.r, row.drift, row.cosine, row.m, row.kappa]
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)
