"""Deriving LIVAR's table: exact Shapley values, planted effects, and an honest verdict."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcircuit.aggregation.layers import ProxyRun, fit_importance, shapley_of_two
from fedcircuit.aggregation.layers.importance_fit import marginal_effects
from fedcircuit.aggregation.layers.importance_table import PUBLISHED, cells, shares_of, two_factors

GRIDS = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(-1e3, 1e3)
)


def test_shapley_values_by_hand() -> None:
    # f = [[0, 0], [0, 4]]: means 0, 2 either way, 1 in all
    a, b = shapley_of_two([[0.0, 0.0], [0.0, 4.0]])
    assert a.tolist() == [[-0.5, -1.5], [0.5, 1.5]]
    assert b.tolist() == [[-0.5, 0.5], [-1.5, 1.5]]


@given(GRIDS)
def test_contributions_sum_to_the_function_less_its_mean(f: np.ndarray) -> None:
    a, b = shapley_of_two(f)
    np.testing.assert_allclose(a + b, f - f.mean(), atol=1e-9)


@given(hnp.arrays(np.float64, st.integers(1, 6), elements=st.floats(-1e3, 1e3)), st.integers(1, 5))
def test_a_function_of_one_feature_gives_the_other_nothing(f: np.ndarray, n: int) -> None:
    a, b = shapley_of_two(np.repeat(f[:, None], n, axis=1))
    np.testing.assert_allclose(b, 0.0, atol=1e-9)
    np.testing.assert_allclose(a[:, 0], f - f.mean(), atol=1e-9)
    again_a, again_b = shapley_of_two(np.repeat(f[None, :], n, axis=0))
    np.testing.assert_allclose(again_a, 0.0, atol=1e-9)
    np.testing.assert_allclose(again_b[0], f - f.mean(), atol=1e-9)


@given(GRIDS)
def test_the_values_are_means_over_all_orders_in_which_features_become_known(
    f: np.ndarray,
) -> None:
    # an independent route: the definition, feature by feature
    found = np.zeros((2, *f.shape))
    for i, j in np.ndindex(f.shape):
        for order in permutations((0, 1)):
            known: set[int] = set()
            for player in order:
                before = f[i if 0 in known else slice(None), j if 1 in known else slice(None)]
                known.add(player)
                after = f[i if 0 in known else slice(None), j if 1 in known else slice(None)]
                found[player, i, j] += (np.mean(after) - np.mean(before)) / 2
    np.testing.assert_allclose(shapley_of_two(f), found, atol=1e-9)


def planted(dataset: str, seed: int, table: np.ndarray, noise: float = 0.0) -> ProxyRun:
    """A run whose loss falls by the table's entry for every share that a pair gets."""
    rng = np.random.default_rng(seed)
    a, b = rng.random((4, 5)), rng.random((4, 5))
    gain = two_factors(a, b, table) + noise * rng.normal(size=a.shape)
    return ProxyRun(dataset, a, b, lambda weights: 3.0 - float((gain * weights).sum()))


NO_EFFECT = np.ones((3, 3))


def test_effects_of_a_linear_loss_are_its_slopes_but_for_a_constant_a_layer() -> None:
    rng = np.random.default_rng(0)
    slopes = rng.normal(size=(3, 4))
    run = ProxyRun("x", slopes**2, slopes**2, lambda weights: float((slopes * weights).sum()))
    found = marginal_effects(run, draws=60, ridge=1e-9, rng=rng)
    expected = -(slopes - slopes.mean(axis=0))  # weights sum to 1: a constant cannot be seen
    np.testing.assert_allclose(found - found.mean(axis=0), expected, atol=1e-5)


def test_a_planted_table_is_found_and_beats_uniform_weights_held_out() -> None:
    runs = [planted(name, seed, PUBLISHED) for seed, name in enumerate("aabbcc")]
    fit = fit_importance(runs, draws=40)
    assert fit.strength > 0
    assert fit.table.mean() == pytest.approx(1.0)
    assert (fit.table[2] > fit.table[0]).all()  # more of B's importance, more weight
    assert fit.table[2, 0] == fit.table.max()
    assert [held.dataset for held in fit.held_out] == ["a", "b", "c"]
    assert fit.beats_uniform
    assert fit.verdict.startswith("the fitted table beats uniform weights: its loss is lower on 3")
    for held in fit.held_out:
        assert held.published < held.uniform


def test_a_table_of_the_other_sign_is_found_where_that_is_what_helps() -> None:
    runs = [planted(name, seed, -PUBLISHED) for seed, name in enumerate("aabb")]
    fit = fit_importance(runs, draws=40)
    assert (fit.table[2] < fit.table[0]).all()
    assert fit.beats_uniform
    assert all(held.published > held.uniform for held in fit.held_out)


def test_what_does_not_carry_over_is_said_not_to_beat_uniform_weights() -> None:
    # every data set wants the opposite of the others
    runs = [planted("a", 0, PUBLISHED), planted("b", 1, -PUBLISHED)]
    fit = fit_importance(runs, draws=40)
    assert not fit.beats_uniform
    assert "does not beat uniform weights: its loss is lower on 0 of 2" in fit.verdict


def test_where_nothing_matters_the_weights_stay_uniform() -> None:
    rng = np.random.default_rng(0)
    runs = [ProxyRun(n, rng.random((3, 4)), rng.random((3, 4)), lambda weights: 1.0) for n in "ab"]
    fit = fit_importance(runs, draws=10)
    assert (fit.table == NO_EFFECT).all()
    assert fit.strength == 0.0
    assert not fit.beats_uniform


def test_the_losses_held_out_are_those_of_the_three_tables() -> None:
    runs = [planted("a", 0, PUBLISHED), planted("b", 1, PUBLISHED)]
    fit = fit_importance(runs, draws=20, seed=3)
    for held, run in zip(fit.held_out, runs, strict=True):
        assert held.published == pytest.approx(run.loss(shares_of(two_factors(run.a, run.b))))
        assert held.uniform == pytest.approx(run.loss(np.full((4, 5), 0.25)))
    again = fit_importance(runs, draws=20, seed=3)
    assert again.table.tolist() == fit.table.tolist()


def test_what_cannot_be_fitted_is_refused() -> None:
    run = planted("a", 0, PUBLISHED)
    with pytest.raises(ValueError, match=r"give runs of two or more, got \['a'\]"):
        fit_importance([run, run])
    other = planted("b", 0, PUBLISHED)
    with pytest.raises(ValueError, match="draws must be >= 2"):
        fit_importance([run, other], draws=1)
    with pytest.raises(ValueError, match="ridge > 0"):
        fit_importance([run, other], ridge=0.0)
    broken = ProxyRun("b", run.a, run.b, lambda weights: float("nan"))
    with pytest.raises(ValueError, match="a loss of a run of 'b' is not finite"):
        fit_importance([run, broken])
    for a in (np.ones((1, 3)), np.ones((2, 0)), np.full((2, 3), np.nan), np.ones(3)):
        with pytest.raises(ValueError, match="importances of 'x' must be finite"):
            ProxyRun("x", a, a, lambda weights: 1.0)
    with pytest.raises(ValueError, match="importances of 'x'"):
        ProxyRun("x", np.ones((2, 3)), np.ones((2, 4)), lambda weights: 1.0)


def test_cells_count_the_bounds_as_between() -> None:
    assert cells(np.array([0.0, 1, 2, 3, 4]), (0.25, 0.5)).tolist() == [0, 1, 1, 2, 2]
