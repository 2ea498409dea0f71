"""The information plane of models: means, gaps and settings, by hand and as laws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedcircuit.analysis.estimators.estimate import Estimate
from fedcircuit.analysis.estimators.layer import layer_information
from fedcircuit.analysis.estimators.settings import InformationSettings
from fedcircuit.analysis.information.plane import (
    GAP_COLUMNS,
    PLANE_COLUMNS,
    ModelPlane,
    PlaneSettings,
    common_setting,
    mean_plane,
    model_plane,
    plane_gaps,
    principal,
)
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.samples import Samples

BASE = Estimate(
    quantity="I(X;T)", value=0.0, unit="bits", estimator="kolchinsky-tracey-lower",
    setting="noise variance 1", n=8, d=3, unique=1.0, saturated=False, null=math.nan,
)  # fmt: skip


def estimates(lower: float, upper: float, labels: float, **changes: object) -> tuple[Estimate, ...]:
    base = replace(BASE, **changes)  # type: ignore[arg-type]
    return (
        replace(base, value=lower),
        replace(base, value=upper, estimator="kolchinsky-tracey-upper"),
        replace(base, quantity="I(T;Y)", value=labels, estimator="probe", setting="k"),
    )


def plane(name: str, accuracy: float, *rows: tuple[Estimate, ...]) -> ModelPlane:
    return ModelPlane(name, accuracy, tuple((f"fc{i}", row) for i, row in enumerate(rows)))


A = plane("0", 0.5, estimates(1.0, 2.0, 0.25, unique=0.5), estimates(4.0, 5.0, 0.5))
B = plane("1", 0.8, estimates(2.0, 4.0, 0.75), estimates(5.0, 7.0, 0.5, saturated=True))
GLOBAL = plane("global", 0.9, estimates(3.0, 6.0, 0.6), estimates(3.0, 4.5, 0.9))


def test_the_mean_of_clients_by_hand() -> None:
    mean = mean_plane([A, B])
    assert (mean.model, mean.accuracy) == ("mean of clients", pytest.approx(0.65))
    assert [name for name, _ in mean.layers] == ["fc0", "fc1"]
    values = [[e.value for e in row] for _, row in mean.layers]
    assert values == [[1.5, 3.0, 0.5], [4.5, 6.0, 0.5]]
    assert [[e.saturated for e in row] for _, row in mean.layers] == [[False] * 3, [True] * 3]
    assert [e.unique for e in mean.layers[0][1]] == [0.75] * 3


def test_gaps_are_the_average_minus_the_mean_of_clients_by_the_upper_bound() -> None:
    first, second = plane_gaps(GLOBAL, mean_plane([A, B]))
    assert first.cells == ("fc0", 3.0, pytest.approx(0.1), pytest.approx(0.25), False)
    assert second.cells == ("fc1", -1.5, pytest.approx(0.4), pytest.approx(0.25), True)
    assert len(GAP_COLUMNS) == len(first.cells)


def test_saturation_of_an_estimate_that_is_not_subtracted_does_not_count() -> None:
    lower = replace(GLOBAL.layers[0][1][0], saturated=True)
    flagged = plane("global", 0.9, (lower, *GLOBAL.layers[0][1][1:]))
    mean = plane("mean of clients", 0.5, A.layers[0][1])
    assert not plane_gaps(flagged, mean)[0].saturated
    upper = replace(GLOBAL.layers[0][1][1], saturated=True)
    flagged = plane("global", 0.9, (lower, upper, GLOBAL.layers[0][1][2]))
    assert plane_gaps(flagged, mean)[0].saturated


def test_without_clients_no_gap_is_defined() -> None:
    gaps = plane_gaps(GLOBAL, None)
    assert [gap.layer for gap in gaps] == ["fc0", "fc1"]
    assert all(math.isnan(x) for gap in gaps for x in (gap.d_inputs, gap.d_labels, gap.accuracy))


def test_what_one_client_lacks_is_not_defined_for_the_mean() -> None:
    broken = plane(
        "2", math.nan, estimates(math.nan, 2.0, 0.25, reason="not finite"), A.layers[1][1]
    )
    mean = mean_plane([A, broken])
    row = mean.layers[0][1]
    assert math.isnan(row[0].value)
    assert row[1].value == 2.0
    assert row[0].reason == "not finite"
    assert math.isnan(mean.accuracy)
    assert math.isnan(plane_gaps(GLOBAL, mean)[0].accuracy)


@given(st.lists(st.floats(-5, 15), min_size=1, max_size=6), st.randoms())
def test_the_mean_is_that_of_the_values_in_any_order(values: list[float], random: object) -> None:
    planes = [plane(str(i), 0.5, estimates(v, v + 1, v / 2)) for i, v in enumerate(values)]
    random.shuffle(planes)  # type: ignore[attr-defined]
    row = mean_plane(planes).layers[0][1]
    assert row[0].value == pytest.approx(np.mean(values), abs=1e-12)
    assert row[2].value == pytest.approx(np.mean(values) / 2, abs=1e-12)


@given(st.floats(-5, 15), st.integers(1, 5))
def test_equal_models_have_no_gap(value: float, n_clients: int) -> None:
    same = plane("0", 0.5, estimates(value, value, value))
    (gap,) = plane_gaps(replace(same, model="global"), mean_plane([same] * n_clients))
    assert (gap.d_inputs, gap.d_labels, gap.accuracy) == pytest.approx((0, 0, 0), abs=1e-12)


def test_planes_of_other_layers_or_estimators_are_refused() -> None:
    with pytest.raises(ValueError, match="same layers and estimators"):
        mean_plane([A, plane("1", 0.5, A.layers[0][1])])
    with pytest.raises(ValueError, match="same layers and estimators"):
        plane_gaps(GLOBAL, plane("1", 0.5, A.layers[0][1][:2], A.layers[1][1]))
    with pytest.raises(ValueError, match="at least one, got none"):
        mean_plane([])


def test_settings_that_differ_in_a_number_are_joined() -> None:
    texts = ["noise 10 = 0.1^2 x v", "noise 9 = 0.1^2 x v", "noise 1e-3 = 0.1^2 x v"]
    assert common_setting(texts) == "noise 1e-3 to 10 = 0.1^2 x v"
    assert common_setting(["bins 3", "bins 3"]) == "bins 3"
    assert common_setting(["bins 3", "bins of 3"]) == "differs between models"
    assert common_setting(["bins 3", "width 3"]) == "differs between models"


def test_the_estimate_of_gaps_is_the_upper_bound_or_the_only_one() -> None:
    row = estimates(1.0, 2.0, 0.25)
    assert principal(row, "I(X;T)") is row[1]
    assert principal(row, "I(T;Y)") is row[2]
    assert principal(row[:2], "I(T;Y)") is None


def test_rows_name_model_layer_and_estimate() -> None:
    cells = A.cells
    assert len(cells) == 6
    row = dict(zip(PLANE_COLUMNS, cells[3], strict=True))
    nan = row.pop("null")
    assert math.isnan(nan)  # type: ignore[arg-type]
    assert row == {
        "model": "0", "layer": "fc1", "quantity": "I(X;T)", "value": 4.0, "unit": "bits",
        "estimator": "kolchinsky-tracey-lower", "setting": "noise variance 1", "n": 8, "d": 3,
        "unique": 1.0, "saturated": False, "accuracy": 0.5, "reason": None,
    }  # fmt: skip


def tiny() -> tuple[nn.Module, Samples]:
    """Two hidden layers, the second of which forgets everything."""
    generator = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        model[2].weight.zero_()
    inputs = torch.randn(60, 4, generator=generator)
    return model, Samples(inputs, (inputs[:, 0] > 0).long())


def test_a_model_is_measured_layer_by_layer_by_the_estimators_themselves() -> None:
    model, pool = tiny()
    sites = find_sites(model, pool.inputs[:2])
    settings = PlaneSettings(InformationSettings())
    found = model_plane("global", model, pool, sites, settings, seed=5)
    assert [name for name, _ in found.layers] == ["0", "2"]
    hidden = model[:2](pool.inputs).detach().numpy()
    expected = layer_information(
        hidden.astype(np.float64), pool.labels.numpy(), settings.information, seed=5
    )
    assert repr(found.layers[0][1]) == repr(expected)  # a NaN equals none, not even itself
    forgotten = found.layers[1][1]
    assert [e.value for e in forgotten] == [0.0] * len(forgotten)
    rightly = (model(pool.inputs).argmax(1) == pool.labels).float().mean()
    assert found.accuracy == pytest.approx(float(rightly))


def test_the_logits_are_a_layer_where_asked_for() -> None:
    model, pool = tiny()
    sites = find_sites(model, pool.inputs[:2])
    settings = PlaneSettings(InformationSettings(), output=True)
    found = model_plane("global", model, pool, sites, settings, seed=5)
    assert [(name, row[0].d) for name, row in found.layers] == [("0", 3), ("2", 2), ("output", 2)]


def test_another_word_for_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="spatial must be 'mean' or 'flat', got 'max'"):
        PlaneSettings(InformationSettings(), spatial="max")  # type: ignore[arg-type]
