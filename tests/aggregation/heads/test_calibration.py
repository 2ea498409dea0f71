"""Head rows by class count, class moments, CCVR, its circuit-aware form and logit offsets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rule_helpers import fedavg, round_of_clients
from rule_rounds import alike, average_of, setting, whole_round
from sklearn.covariance import OAS
from torch import nn
from toy_federation import N_CLASSES, bits, build_net, samples_of

from fedcircuit import messages
from fedcircuit.aggregation import NO_STATE, RuleError, Said, Setting, Updates
from fedcircuit.aggregation.heads import (
    CCVR,
    CircuitCalibration,
    ClassCountHead,
    LogitOffsets,
    Refit,
    moments_of,
)
from fedcircuit.aggregation.heads.moments import Moments, pooled_moments, probe_features
from fedcircuit.aggregation.heads.refit import root_of, softmax, virtual_features
from fedcircuit.aggregation.named import rule
from fedcircuit.learning import get_weights, set_weights


def said_moments(features: np.ndarray, labels: np.ndarray) -> dict[str, Said]:
    own = moments_of(features, labels, 2)
    return {
        messages.MOMENTS_COUNT: own.n.tolist(),
        messages.MOMENTS_SUM: own.sums.tobytes(),
        messages.MOMENTS_OUTER: own.outer.tobytes(),
    }


def head_round(said: list[dict[str, Said]]) -> Updates:
    """Two classes, heads of two features."""
    before = {"head.weight": np.zeros((2, 2)), "head.bias": np.zeros(2)}
    one = {"head.weight": np.array([[1.0, 2.0], [3.0, 4.0]]), "head.bias": np.array([1.0, 2.0])}
    other = {"head.weight": np.array([[5.0, 6.0], [7.0, 8.0]]), "head.bias": np.array([3.0, 6.0])}
    return round_of_clients(before, [one, other], said, [2, 6])


def test_rows_by_class_count_and_the_average_s_row_of_a_class_that_nobody_has() -> None:
    updates = head_round([{messages.CLASS_COUNTS: [3, 0]}, {messages.CLASS_COUNTS: [1, 0]}])
    average = {"head.weight": np.full((2, 2), 9.0), "head.bias": np.array([8.0, 9.0])}
    got, _ = ClassCountHead()(updates, average, Setting(2), NO_STATE)
    np.testing.assert_allclose(got["head.weight"], [[2.0, 3.0], [9.0, 9.0]])
    np.testing.assert_allclose(got["head.bias"], [1.5, 9.0])


def test_pooled_moments_are_those_of_all_samples_together() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 2)), np.arange(40) % 2
    parts = [(features[:7], labels[:7]), (features[7:], labels[7:])]
    updates = head_round([said_moments(*part) for part in parts])
    got = pooled_moments("ccvr", updates, fedavg(updates), Setting(2), "head.weight")
    for index in range(2):
        own = features[labels == index]
        np.testing.assert_allclose(got.means[index], own.mean(0))
        np.testing.assert_allclose(got.covariance(index), np.cov(own.T, ddof=0), atol=1e-12)


@pytest.mark.parametrize(("n", "spread"), [(6, 1.0), (2, 0.0), (3, 0.0), (8, 0.2)])
def test_covariances_of_few_samples_are_shrunk_as_scikit_learn_does_it(
    n: int, spread: float
) -> None:
    features = np.random.default_rng(2).normal(size=(n, 9)) * np.arange(1, 10) ** spread
    got = moments_of(features, np.zeros(n), 1).covariance(0)
    np.testing.assert_allclose(got, OAS().fit(features).covariance_, rtol=1e-9, atol=1e-12)


def test_as_many_samples_as_features_are_enough_not_to_be_shrunk() -> None:
    features = np.random.default_rng(2).normal(size=(4, 4))
    got = moments_of(features, np.zeros(4), 1).covariance(0)
    np.testing.assert_allclose(got, np.cov(features.T, ddof=0), atol=1e-12)


def test_a_class_with_one_sample_has_no_spread_of_its_own() -> None:
    got = moments_of(np.array([[1.0, 2.0]]), np.zeros(1), 2)
    np.testing.assert_allclose(got.covariance(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(got.covariance(1), 0.0)
    assert np.isfinite(virtual_features(got, 5, np.random.default_rng(0))[0]).all()


def test_virtual_features_have_the_moments_and_are_clipped_only_where_they_come_from_a_relu() -> (
    None
):
    cov = np.array([[2.0, 1.0], [1.0, 1.0]])
    for mean in (np.array([-3.0, 1.0]), np.array([0.2, 1.0])):
        moments = Moments(
            np.array([10.0, 0.0]), np.stack([10 * mean, 0 * mean]),
            np.stack([10 * (cov + np.outer(mean, mean)), 0 * cov]),
        )  # fmt: skip
        drawn, labels = virtual_features(moments, 20_000, np.random.default_rng(0))
        assert (labels == 0).all()
        if mean[0] < 0:
            np.testing.assert_allclose(drawn.mean(0), mean, atol=0.05)
            np.testing.assert_allclose(np.cov(drawn.T), cov + 1e-3 * np.eye(2), atol=0.08)
        else:
            assert drawn.min() == 0.0


def test_roots_give_back_the_covariance_and_count_what_rounding_made_negative_as_nothing() -> None:
    axes, _ = np.linalg.qr(np.array([[1.0, 2, 0], [0, 1, 3], [4, 0, 1]]))
    for variances, known in (([4, 1, 0], [4, 1, 0]), ([4, 1, -0.5], [4, 1, 0])):
        root = root_of(axes @ np.diag(np.array(variances, float)) @ axes.T)
        expected = axes @ np.diag(np.array(known) + 1e-3) @ axes.T
        np.testing.assert_allclose(root @ root.T, expected, atol=1e-12)


def test_the_features_of_the_probe_are_what_the_head_reads() -> None:
    given, weights = setting(), get_weights(build_net())
    features, logits = probe_features("ccvr", weights, given, "3.weight")
    assert given.probe is not None
    model = build_net().eval()
    with torch.no_grad():
        np.testing.assert_allclose(features, model[:3](given.probe.inputs), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(logits, model(given.probe.inputs), rtol=1e-4, atol=1e-6)


def accuracy(model: nn.Module, weights: dict[str, np.ndarray]) -> float:
    set_weights(model, weights)
    data = samples_of(31, 300)
    with torch.no_grad():
        return float((model.eval()(data.inputs).argmax(1) == data.labels).float().mean())


@pytest.mark.parametrize("name", ["ccvr", "logit-offsets"])
def test_a_head_that_has_forgotten_a_class_is_mended_on_the_probe(name: str) -> None:
    model = build_net()
    fitted = get_weights(model)
    fitted["0.weight"] = np.eye(5, 6, dtype=np.float32)  # features that tell the classes apart
    fitted["3.weight"] = 2 * np.eye(3, 5, dtype=np.float32)
    broken = {**fitted, "3.bias": np.array([0.0, 6.0, 6.0], np.float32)}
    updates = alike(whole_round(), 2)
    given = Setting(N_CLASSES, model, samples_of(9, 120))
    silent = replace(updates, clients=tuple(replace(u, said={}) for u in updates.clients))
    got, _ = rule(name)(silent, broken, given, NO_STATE)
    assert accuracy(build_net(), dict(got)) > accuracy(build_net(), broken) + 0.1


def test_the_fit_moves_rows_of_present_classes_downhill_and_leaves_absent_ones() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 4)) + 2 * np.eye(3, 4)[np.arange(60) % 3]
    moments = moments_of(features, np.arange(60) % 3, 4)
    start = rng.normal(size=(4, 5))
    rows = Refit().rows(start, moments, 0)
    assert rows[3].tobytes() == start[3].tobytes()
    draws, labels = virtual_features(moments, 100, np.random.default_rng(7))
    inputs = np.column_stack([draws, np.ones(len(draws))])

    def loss(weights: np.ndarray) -> float:
        return float(-np.log(softmax(inputs @ weights.T)[np.arange(len(labels)), labels]).mean())

    assert loss(rows) < loss(start) / 3


def test_one_step_of_the_fit_by_hand() -> None:
    """One class mean a class, next to no spread: the gradient of softmax regression."""
    moments = moments_of(np.array([[1.0], [-1.0]]), np.arange(2), 2)
    refit = Refit(per_class=20_000, epochs=1, batch_size=40_000, lr=1.0)
    rows = refit.rows(np.zeros((2, 2)), moments, 0)
    # probabilities 1/2: gradient of row 0 is -(1/2) * mean over its half of (1, 1) and so on
    np.testing.assert_allclose(rows, [[0.5, 0.0], [-0.5, 0.0]], atol=2e-3)


def test_circuit_calibration_is_ccvr_without_rho_and_holds_back_with_it() -> None:
    updates, given = whole_round(), setting()
    average = average_of(updates)
    refit = Refit(per_class=30, epochs=5)
    plain, _ = CCVR(refit=refit)(updates, average, given, NO_STATE)
    off, _ = CircuitCalibration(refit=refit)(updates, average, given, NO_STATE)
    assert bits(off) == bits(plain)
    held, _ = CircuitCalibration(rho=15.0, refit=refit)(updates, average, given, NO_STATE)
    assert given.masks is not None
    free = given.masks.any(0)
    assert not free.all()
    moved = [np.abs(w["3.weight"] - average["3.weight"]) for w in (plain, held)]
    assert moved[1][~free].sum() < 0.2 * moved[0][~free].sum()


def test_rounds_without_a_fit_are_the_average_bit_for_bit() -> None:
    updates, given = whole_round(), setting()
    average = average_of(updates)

    def fits(made: CCVR, number: int) -> bool:
        got, _ = made(replace(updates, round=number), average, given, NO_STATE)
        return bits(got) != bits(average)

    refit = Refit(per_class=5, epochs=1)
    assert [fits(CCVR(every=2, refit=refit), n) for n in (1, 2, 3, 4)] == [False, True] * 2
    last = CCVR(every=0, last=3, refit=refit)
    assert [fits(last, n) for n in (1, 2, 3, 4)] == [False, False, True, False]


def test_offsets_are_the_minimum_of_the_balanced_loss() -> None:
    updates, given = whole_round(), setting()
    average = average_of(updates)
    assert given.probe is not None
    got, _ = LogitOffsets()(updates, average, given, NO_STATE)
    offsets = got["3.bias"].astype(np.float64) - average["3.bias"]
    _, logits = probe_features("x", average, given, "3.weight")
    labels = given.probe.labels.numpy()

    def loss(b: np.ndarray) -> float:
        each = -np.log(softmax(logits + b)[np.arange(len(labels)), labels])
        means = [each[labels == c].mean() for c in range(N_CLASSES)]
        return float(np.mean(means) + 1e-3 / 2 * b @ b)

    rng = np.random.default_rng(0)
    least = loss(offsets)
    assert least < loss(np.zeros(N_CLASSES))
    for step in rng.normal(size=(50, N_CLASSES)):
        assert loss(offsets + 0.05 * step) > least - 1e-9


def test_offsets_need_a_bias_and_labels_that_are_classes() -> None:
    model = nn.Sequential(nn.Linear(6, 3, bias=False))
    own = get_weights(model)
    updates = round_of_clients(own, [own])
    with pytest.raises(RuleError, match="needs a head with a bias"):
        LogitOffsets()(updates, own, Setting(3, model, samples_of(0)), NO_STATE)
    data = samples_of(0)
    odd = replace(data, labels=data.labels + 2)
    with pytest.raises(RuleError, match="labels of the probe below 3 classes"):
        LogitOffsets()(whole_round(), average_of(whole_round()),
                       Setting(3, build_net(), odd), NO_STATE)  # fmt: skip


def test_moments_from_some_clients_alone_are_refused() -> None:
    features, labels = np.ones((4, 2)), np.arange(4) % 2
    updates = head_round([said_moments(features, labels), {}])
    with pytest.raises(RuleError, match=r"client b: .*moments-count"):
        CCVR()(updates, fedavg(updates), Setting(2), NO_STATE)


@pytest.mark.parametrize(
    "make",
    [lambda: CCVR(every=-1), lambda: CCVR(every=0), lambda: CCVR(last=0),
     lambda: CircuitCalibration(rho=-1.0), lambda: CircuitCalibration(rho=25.0),
     lambda: Refit(epochs=0), lambda: Refit(lr=0.0), lambda: Refit(momentum=1.0),
     lambda: LogitOffsets(ridge=0.0)],
)  # fmt: skip
def test_options_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"must|give its number"):
        make()  # type: ignore[operator]
