"""The 4,096 patterns of twelve bits on a sphere, their labels, and the network for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre
from sklearn.linear_model import LogisticRegression
from torch import nn

from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.data.binary_sphere import (
    binary_sphere,
    labels_of,
    patterns,
    power,
    vertices,
)
from fedcircuit.learning.data.datasets import load_dataset
from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.sources.data_source import DataSource
from fedcircuit.learning.training.evaluation import evaluate
from fedcircuit.learning.training.local_training import LocalTraining, train_local

SIZES = (10, 7, 5, 4, 3)


def test_the_preset_loads_all_patterns_and_the_network_of_the_paper() -> None:
    data = load_dataset(DataSource("szt", test_share=0), seed=0)
    rows = data.train.inputs.reshape(-1, 12)
    assert rows.shape == (4096, 12)
    assert data.train.inputs.dtype == torch.float32
    assert sorted(rows.unique().tolist()) == [-1.0, 1.0]
    assert len(rows.unique(dim=0)) == 4096
    assert data.input_shape == (1, 1, 12)
    assert len(data.class_names) == 2

    model = build_model("mlp", data.input_shape, 2, seed=0, widths=SIZES, activation="tanh")
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    sizes = [layers[0].in_features, *(layer.out_features for layer in layers)]
    assert sizes == [12, 10, 7, 5, 4, 3, 2]
    assert [type(layer) for layer in list(model)[1:]] == [nn.Linear, nn.Tanh] * 5 + [nn.Linear]


def test_the_units_of_a_tanh_network_are_read_behind_the_tanh() -> None:
    data = load_dataset(DataSource("szt"), seed=0)
    model = build_model("mlp", (1, 1, 12), 2, seed=0, widths=SIZES, activation="tanh")
    sites = find_sites(model, data.test.inputs[:2])
    assert [site.n_units for site in sites] == list(SIZES)
    assert all(isinstance(model.get_submodule(site.output), nn.Tanh) for site in sites)


def test_a_pattern_is_its_number_in_binary() -> None:
    assert patterns()[0b101].tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert np.array_equal(patterns() @ (2 ** np.arange(12)), np.arange(4096))


def test_the_points_are_those_of_an_icosahedron() -> None:
    points = vertices()
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    products = np.sort(points @ points.T, axis=1)
    root = 1 / np.sqrt(5)
    np.testing.assert_allclose(
        products, np.tile([-1] + [-root] * 5 + [root] * 5 + [1], (12, 1)), atol=1e-12
    )


def test_the_powers_of_small_patterns_by_hand() -> None:
    points = vertices()
    near = int(np.argmax(np.isclose(points @ points[0], 1 / np.sqrt(5))))
    far = int(np.argmin(points @ points[0]))
    bits = np.zeros((4, 12), dtype=np.int64)
    for row, marked in enumerate(([], [0], [0, near], [0, far])):
        bits[row, marked] = 1
    # degree 1: |v|^2, |v + w|^2; degree 2: P2(1) = P2(-1) = 1, P2(1/sqrt 5) = (3/5 - 1)/2 = -1/5
    np.testing.assert_allclose(power(bits, 1), [0, 1, 2 + 2 / np.sqrt(5), 0], atol=1e-12)
    np.testing.assert_allclose(power(bits, 2), [0, 1, 2 - 2 / 5, 4], atol=1e-12)


def test_labels_by_the_slow_route() -> None:
    points, bits = vertices(), patterns()
    chosen = np.random.default_rng(0).integers(0, 4096, 60)
    ours = labels_of(bits)[chosen]
    for label, pattern in zip(ours, bits[chosen], strict=True):
        total = sum(
            eval_legendre(1, points[i] @ points[j]) + eval_legendre(2, points[i] @ points[j])
            for i in np.flatnonzero(pattern)
            for j in np.flatnonzero(pattern)
        )
        assert abs(total - 5.95) > 0.04  # no pattern's class hangs on rounding
        assert label == (total > 5.95)


def test_no_fifth_of_a_turn_about_a_point_changes_a_label() -> None:
    points, bits = vertices(), patterns()
    labels = labels_of(bits)
    for axis in points:
        turned = Rotation.from_rotvec(2 * np.pi / 5 * axis).apply(points)
        moved = np.argmax(turned @ points.T, axis=1)
        np.testing.assert_allclose(points[moved], turned, atol=1e-12)
        assert not np.array_equal(moved, np.arange(12))
        assert np.array_equal(labels_of(bits[:, moved]), labels)


def test_classes_are_balanced_and_a_pattern_is_of_one_class_with_its_complement() -> None:
    labels = labels_of(patterns())
    assert labels.sum() == 2006
    assert max(labels.mean(), 1 - labels.mean()) == pytest.approx(0.51, abs=0.001)
    assert np.array_equal(labels, labels_of(1 - patterns()))


def test_a_network_learns_what_logistic_regression_cannot() -> None:
    data = load_dataset(DataSource("szt", test_share=0), seed=0)
    rows, labels = data.train.inputs.reshape(-1, 12).numpy(), data.train.labels.numpy()
    linear = LogisticRegression().fit(rows, labels).score(rows, labels)
    model = build_model("mlp", (1, 1, 12), 2, seed=0, widths=SIZES, activation="tanh")
    training = LocalTraining(steps=1200, batch_size=256, optimizer="adam", lr=0.005)
    train_local(model, data.train, training, n_classes=2, seed=0)

    assert linear < 0.55
    assert evaluate(model, data.train, n_classes=2).accuracy > 0.85


def test_the_patterns_held_out_are_drawn_by_the_seed_and_none_is_trained_on() -> None:
    first, again, other = (load_dataset(DataSource("szt"), seed=seed) for seed in (0, 0, 1))
    assert (len(first.train), len(first.test)) == (3276, 820)
    both = torch.cat([first.train.inputs, first.test.inputs]).reshape(-1, 12)
    assert len(both.unique(dim=0)) == 4096
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert not torch.equal(first.test.inputs, other.test.inputs)
    for split in (first, other):  # of 2,090 and 2,006 patterns
        assert split.test.counts(2).tolist() == [418, 402]
    for part in (first.train, first.test):
        bits = ((part.inputs.reshape(-1, 12) + 1) / 2).long().numpy()
        assert np.array_equal(labels_of(bits), part.labels.numpy())


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"test_share must lie in \[0, 1\), got"):
        binary_sphere(share, seed=0)
