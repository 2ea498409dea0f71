"""Masked downloads: densities by hand, exact top-k under ties, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from fedcircuit.aggregation.lips import (
    LipsSettings,
    included_layers,
    kept_entries,
    local_tensors,
    masked,
    middle_layers,
    packed,
    scores,
    unpacked,
)

WEIGHTS = {
    "first.weight": np.full((2, 2), 9.0, np.float32),
    "middle.weight": np.array([[0.5, -3.0, 1.0], [-2.0, 0.1, 4.0]], np.float32),
    "middle.bias": np.array([7.0, 8.0], np.float32),
    "count": np.array(5, np.int64),
    "last.weight": np.full((1, 3), 2.0, np.float32),
}


def test_the_density_is_d0_first_then_grows_by_the_period_and_the_round() -> None:
    settings = LipsSettings(period=5, d0=0.5)
    # i = 0, F and 2F are the downloads of Flower's rounds 2, 7 and 12
    assert settings.density(2, 100) == 0.5
    assert settings.density(7, 100) == pytest.approx(0.5 + 0.5 * 5 / 100)
    assert settings.density(12, 100) == pytest.approx(0.5 + 0.5 * 10 / 100)
    assert [settings.density(r, 100) for r in (1, 3, 4, 5, 6, 8)] == [1.0] * 6


def test_at_the_last_i_the_density_is_one_or_what_the_schedule_says() -> None:
    # i = T - 1 is the download of a round after the run; the formula holds there too
    assert LipsSettings(period=5, d0=0.3).density(100 - 1 + 2, 100) == 1.0  # 99 % 5 != 0
    assert LipsSettings(period=5, d0=0.3).density(101 - 1 + 2, 101) == pytest.approx(
        0.3 + 0.7 * 100 / 101
    )


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_after_the_last_round_nothing_is_masked_any_more(schedule: str) -> None:
    settings = LipsSettings(period=1, d0=0.3, schedule=schedule)  # type: ignore[arg-type]
    assert [settings.density(2 + i, 10) for i in (10, 15, 20)] == [1.0, 1.0, 1.0]


def test_schedules_start_at_d0_and_differ_in_between() -> None:
    by_name = {
        name: LipsSettings(period=10, d0=0.2, schedule=name)  # type: ignore[arg-type]
        for name in ("linear", "cosine", "const")
    }
    assert [s.density(2, 40) for s in by_name.values()] == [0.2, 0.2, 0.2]
    quarter = {name: s.density(12, 40) for name, s in by_name.items()}
    assert quarter["linear"] == pytest.approx(0.2 + 0.8 * 0.25)
    assert quarter["cosine"] == pytest.approx(0.2 + 0.8 * 0.5 * (1 - math.sqrt(0.5)))
    assert quarter["const"] == 0.2


@given(
    st.integers(1, 9),
    st.floats(0.01, 1.0),
    st.sampled_from(["linear", "cosine", "const"]),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_a_density_lies_between_d0_and_one(
    period: int, d0: float, schedule: str, server_round: int, n_rounds: int
) -> None:
    settings = LipsSettings(period=period, d0=d0, schedule=schedule)  # type: ignore[arg-type]
    density = settings.density(server_round, n_rounds)
    assert d0 <= density <= 1.0
    if (server_round - 2) % period or server_round < 2:
        assert density == 1.0


def test_the_entries_with_the_highest_scores_are_kept() -> None:
    scored = scores({"w": WEIGHTS["middle.weight"]}, "magnitude")
    kept = kept_entries(scored, 0.5)["w"]
    assert kept.tolist() == [[False, True, False], [True, False, True]]
    low = kept_entries(scores({"w": WEIGHTS["middle.weight"]}, "low"), 0.5)["w"]
    assert low.tolist() == (~kept).tolist()


def test_sensitivity_weighs_by_the_gradient_and_is_magnitude_without_one() -> None:
    weights = {"w": np.array([1.0, -2.0, 3.0], np.float32)}
    gradient = {"w": np.array([-9.0, 4.0, 0.1], np.float32)}  # |g w| = 9, 8, 0.3
    kept = kept_entries(scores(weights, "sensitivity", gradient=gradient), 0.34)["w"]
    assert kept.tolist() == [True, False, False]
    alone, magnitude = scores(weights, "sensitivity"), scores(weights, "magnitude")
    np.testing.assert_array_equal(alone["w"], magnitude["w"])


def test_the_share_is_kept_in_each_layer_or_in_all_together() -> None:
    scored = {"a": np.array([5.0, 6.0, 7.0, 8.0]), "b": np.array([1.0, 2.0, 3.0, 9.0])}
    each = kept_entries(scored, 0.5)
    assert each["a"].tolist() == [False, False, True, True]
    assert each["b"].tolist() == [False, False, True, True]
    together = kept_entries(scored, 0.5, "global")
    assert together["a"].tolist() == [False, True, True, True]
    assert together["b"].tolist() == [False, False, False, True]


tied = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=7),
    elements=st.sampled_from([0.0, 1.0, 2.0, np.nan]),
)


@given(tied, st.floats(0.0, 1.0))
def test_the_density_is_exact_with_ties_and_no_kept_score_is_lower(
    values: np.ndarray, density: float
) -> None:
    kept = kept_entries({"w": values}, density)["w"]
    assert kept.sum() == math.floor(density * values.size + 1e-9)
    ranked = np.where(np.isnan(values), -1.0, values)
    if kept.any() and not kept.all():
        assert ranked[kept].min() >= ranked[~kept].max()
    # by sorting, an independent route: of equal scores the earlier entry wins
    order = sorted(range(values.size), key=lambda i: (-ranked.ravel()[i], i))
    np.testing.assert_array_equal(np.flatnonzero(kept.ravel()), sorted(order[: int(kept.sum())]))


@pytest.mark.parametrize(
    ("density", "n", "expected"), [(0.3, 10, 3), (0.7, 10, 7), (0.29, 100, 29)]
)
def test_a_product_just_below_a_whole_number_keeps_that_number(
    density: float, n: int, expected: int
) -> None:
    assert kept_entries({"w": np.arange(float(n))}, density)["w"].sum() == expected


def test_entries_that_are_not_kept_are_zero_or_as_at_the_start() -> None:
    kept = {"middle.weight": np.array([[True, False, False], [False, True, True]])}
    zero = masked(WEIGHTS, kept)
    assert list(zero) == ["middle.weight"]
    assert zero["middle.weight"].tolist() == pytest.approx(np.array([[0.5, 0, 0], [0, 0.1, 4]]))
    assert zero["middle.weight"].dtype == np.float32
    initial = {"middle.weight": np.full((2, 3), 0.25, np.float32)}
    assert masked(WEIGHTS, kept, initial)["middle.weight"][1].tolist() == pytest.approx(
        [0.25, 0.1, 4.0]
    )
    assert not np.signbit(zero["middle.weight"][0, 1])  # -3 becomes 0, not -0


def test_the_middle_is_every_weight_but_the_first_and_the_last() -> None:
    assert middle_layers(WEIGHTS) == ("middle.weight",)
    assert local_tensors(WEIGHTS) == ("middle.bias", "count")


def test_a_function_of_name_and_module_picks_layers() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 7), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2)
    )
    picked = included_layers(
        model, lambda _, m: isinstance(m, nn.Conv2d) and m.kernel_size != (7, 7)
    )
    assert picked == ("2.weight",)
    assert included_layers(model, lambda name, _: name == "1") == ()  # batch norm has no matrix


@given(st.lists(hnp.arrays(np.bool_, hnp.array_shapes(max_side=5)), max_size=4))
def test_packed_entries_come_back(masks: list[np.ndarray]) -> None:
    kept = {str(i): mask for i, mask in enumerate(masks)}
    like = {name: np.zeros(mask.shape) for name, mask in kept.items()}
    back = unpacked(packed(kept), like)
    assert list(back) == list(kept)
    for name, mask in kept.items():
        np.testing.assert_array_equal(back[name], mask)


def test_bits_of_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 2 bytes for the 9 entries of \['w'\], got 1"):
        unpacked(b"\x00", {"w": np.zeros(9)})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"period": 0}, "period must be >= 1 round, got 0"),
        ({"d0": 0.0}, r"d0 must lie in \(0, 1\], got 0.0"),
        ({"d0": 1.5}, r"d0 must lie in \(0, 1\], got 1.5"),
        ({"schedule": "step"}, "schedule must be one of .* got 'step'"),
        ({"score": "taylor"}, "score must be one of .* got 'taylor'"),
        ({"side": "both"}, "side must be one of .* got 'both'"),
        ({"score": "sensitivity", "side": "server"}, "needs the clients' gradients"),
        ({"score": "sensitivity", "reset": "init"}, "needs the initial weights"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LipsSettings(**options)  # type: ignore[arg-type]


def test_a_random_score_needs_a_generator_and_depends_on_it_alone() -> None:
    weights = {"w": np.ones((3, 4), np.float32)}
    with pytest.raises(ValueError, match="needs a generator"):
        scores(weights, "random")
    first, again, other = (
        scores(weights, "random", rng=np.random.default_rng(seed))["w"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
