from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fedcircuit.analysis.estimators.estimate import (
    Estimate,
    Float64Array,
    Int64Array,
    permuted,
    saturates,
    unique_share,
)
from fedcircuit.analysis.estimators.layer import layer_information
from fedcircuit.analysis.estimators.settings import (
    INPUT_ESTIMATORS,
    LABEL_ESTIMATORS,
    CriticSettings,
    InformationSettings,
)

CRITIC = CriticSettings(steps=25, width=8)


def layer(n: int = 120) -> tuple[Float64Array, Int64Array]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    return rng.standard_normal((n, 4)) + 2 * np.eye(3, 4)[labels], labels


def settings_of(inputs: str, labels: str, **changes: object) -> InformationSettings:
    plain = InformationSettings(inputs=inputs, labels=labels, critic=CRITIC)
    return replace(plain, **changes)  # type: ignore[arg-type]


ALL = [("kolchinsky-tracey", labels) for labels in LABEL_ESTIMATORS] + [
    (inputs, "probe") for inputs in INPUT_ESTIMATORS
]


def same(first: Estimate, second: Estimate) -> bool:
    return repr(first) == repr(second)  # NaN equals NaN


def test_the_default_is_both_bounds_and_the_probe() -> None:
    activations, labels = layer()
    found = layer_information(activations, labels, InformationSettings(), seed=0)
    assert [(e.quantity, e.estimator) for e in found] == [
        ("I(X;T)", "kolchinsky-tracey-lower"),
        ("I(X;T)", "kolchinsky-tracey-upper"),
        ("I(T;Y)", "probe"),
    ]
    assert all((e.unit, e.n, e.d, e.unique) == ("bits", 120, 4, 1.0) for e in found)
    assert found[0].value <= found[1].value <= math.log2(120)
    assert 0 < found[2].value < math.log2(3)


@pytest.mark.parametrize(("inputs", "labels"), ALL)
def test_bits_and_nats_differ_by_log_2(inputs: str, labels: str) -> None:
    activations, classes = layer()
    bits, nats = (
        layer_information(
            activations, classes, settings_of(inputs, labels, unit=unit, permutations=1), seed=3
        )
        for unit in ("bits", "nats")
    )
    for one, other in zip(bits, nats, strict=True):
        assert one.value == other.value / math.log(2)
        assert math.isnan(one.null) == math.isnan(other.null)
        assert math.isnan(one.null) or one.null == other.null / math.log(2)
        assert one.saturated == other.saturated
        assert one.value != 0


@pytest.mark.parametrize(("inputs", "labels"), ALL)
def test_the_same_seed_gives_the_same_estimates_with_setting_and_name(
    inputs: str, labels: str
) -> None:
    activations, classes = layer()
    settings = settings_of(inputs, labels, permutations=1)
    first, second = (layer_information(activations, classes, settings, seed=1) for _ in range(2))
    assert all(same(one, other) for one, other in zip(first, second, strict=True))
    assert all(e.setting and not e.reason for e in first)
    about_labels = [e for e in first if e.quantity == "I(T;Y)"]
    assert about_labels
    assert all(e.estimator.startswith(labels) for e in about_labels)
    assert all(e.estimator.startswith(inputs) for e in first if e.quantity == "I(X;T)")
    assert all(math.isnan(e.null) == (e.quantity == "I(X;T)") for e in first)


@pytest.mark.parametrize(("inputs", "labels"), ALL)
def test_cases_that_need_no_estimate_are_0_or_undefined_with_a_reason(
    inputs: str, labels: str
) -> None:
    activations, classes = layer(60)
    settings = settings_of(inputs, labels, permutations=2)

    def found(activations: Float64Array, classes: Int64Array) -> list[tuple[str, float, str]]:
        estimates = layer_information(activations, classes, settings, seed=0)
        assert not any(e.saturated for e in estimates)
        for e in estimates:
            if e.quantity == "I(T;Y)":
                assert e.null == e.value or (math.isnan(e.null) and math.isnan(e.value))
        return [(e.quantity, e.value, e.reason) for e in estimates]

    constant = np.full((60, 4), 3.5)
    assert all(row[1:] == (0.0, "the activations are constant") for row in found(constant, classes))
    assert all(row[1:] == (0.0, "no units") for row in found(constant[:, :0], classes))
    broken = activations.copy()
    broken[7, 2] = np.inf
    for rows, reason in (
        (found(broken, classes), "activations are not finite"),
        (found(activations[:1], classes[:1]), "fewer than 2 samples: 1"),
        (found(activations[:0], classes[:0]), "fewer than 2 samples: 0"),
    ):
        assert all(math.isnan(value) and why == reason for _, value, why in rows)


@pytest.mark.parametrize("labels", LABEL_ESTIMATORS)
def test_one_class_has_no_information_about_it(labels: str) -> None:
    activations, classes = layer(60)
    found = layer_information(
        activations, np.zeros_like(classes), settings_of("binned-width", labels), seed=0
    )
    assert found[0].value > 0
    assert all((e.value, e.reason) == (0.0, "one class only") for e in found[1:])


def test_the_null_is_asked_for_by_default_where_noise_has_information() -> None:
    settings = InformationSettings()
    assert {name: settings.permutations_of(name) for name in LABEL_ESTIMATORS} == {
        "probe": 0, "kolchinsky-tracey": 10, "binned-width": 10, "binned-count": 10,
        "binned-range": 10, "ksg": 0, "infonce": 0, "mine": 0, "smile": 0,
    }  # fmt: skip
    assert replace(settings, permutations=0).permutations_of("binned-width") == 0
    assert replace(settings, permutations=4).permutations_of("probe") == 4


def test_permutations_keep_the_labels_and_differ() -> None:
    labels = np.arange(50) % 3
    first, second = permuted(labels, 2, seed=0)
    assert sorted(first.tolist()) == sorted(second.tolist()) == sorted(labels.tolist())
    assert first.tolist() != second.tolist() != labels.tolist()


def test_distinct_rows_are_counted_and_zeros_are_equal() -> None:
    assert unique_share(np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 2.0], [1.0, 0.0]])) == 0.75
    assert math.isnan(unique_share(np.empty((0, 2))))


def test_the_flag_is_above_nine_tenths_of_the_log_of_the_samples() -> None:
    assert not saturates(0.9 * math.log(100), 100)
    assert saturates(0.9 * math.log(100) + 1e-9, 100)
    assert not saturates(math.nan, 100)
    assert not saturates(0.0, 1)


def test_misfits_are_refused() -> None:
    activations, labels = layer(20)
    with pytest.raises(ValueError, match=r"shape \[n, d\], got \(20, 2, 2\); flatten"):
        layer_information(activations.reshape(20, 2, 2), labels, InformationSettings(), seed=0)
    with pytest.raises(ValueError, match=r"labels must have shape \[20\].*got \(19,\)"):
        layer_information(activations, labels[:19], InformationSettings(), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": "probe"}, "inputs must be one of kolchinsky-tracey, .*got 'probe'"),
        ({"labels": "kde"}, "labels must be one of probe, .*got 'kde'"),
        ({"unit": "hartley"}, "unit must be one of bits, nats, got 'hartley'"),
        ({"beta": 0.0}, "beta must be > 0, got 0.0"),
        ({"noise_variance": -1.0}, "noise_variance must be > 0, got -1.0"),
        ({"noise_variance": math.nan}, "noise_variance must be > 0, got nan"),
        ({"bins": 1}, "bins must be >= 2, got 1"),
        ({"bin_range": (1.0, 1.0)}, "low < high"),
        ({"permutations": -1}, "permutations must be >= 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InformationSettings(**changes)  # type: ignore[arg-type]


def test_critic_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="critic.batch must be >= 2, got 1"):
        CriticSettings(batch=1)
    with pytest.raises(ValueError, match="critic.tau must be > 0, got 0"):
        CriticSettings(tau=0.0)
