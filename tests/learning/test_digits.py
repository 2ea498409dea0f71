"""The digits and their split against scikit-learn, which takes a second to import."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fedcircuit.learning import digits
from fedcircuit.learning.digits import read_digits, stratified_halves


def test_the_digits_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_digits()
    images, labels = read_digits()
    np.testing.assert_array_equal(images, expected.images)
    np.testing.assert_array_equal(labels, expected.target)

    monkeypatch.setattr(digits, "_FILE", digits._FILE.with_name("moved.csv.gz"))
    asked, labels = read_digits()  # of scikit-learn, where its file lies elsewhere
    np.testing.assert_array_equal(asked, expected.images)
    np.testing.assert_array_equal(labels, expected.target)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.25, 0.37, 0.5]))
def test_positions_are_drawn_as_scikit_learn_draws_them(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    n_classes = int(random.integers(2, 7))
    labels = np.concatenate([np.repeat(np.arange(n_classes), 3), random.integers(0, n_classes, 40)])
    random.shuffle(labels)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed
    )
    first, second = stratified_halves(labels, share, seed=seed)
    assert first.tolist() == train.tolist()
    assert second.tolist() == test.tolist()


def test_every_class_keeps_its_share() -> None:
    _, labels = read_digits()
    train, test = stratified_halves(labels, 0.2, seed=0)
    counts = np.bincount(labels[test])
    assert sorted([*train, *test]) == list(range(1797))
    assert len(test) == 360
    assert np.abs(counts - np.bincount(labels) / 5).max() <= 1
