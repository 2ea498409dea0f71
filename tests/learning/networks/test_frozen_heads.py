"""Frozen heads: their geometry, and that nothing ever changes them."""

from __future__ import annotations

import copy
from math import sqrt

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toy_federation import SortedGrid, arrays_of, data_of, weights_of

from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.clients.app import client_app
from fedcircuit.learning.networks.frozen_heads import frozen_rows, with_frozen_head
from fedcircuit.learning.networks.models import MODEL_NAMES, build_model
from fedcircuit.learning.networks.sparsity import WeightSparsity
from fedcircuit.learning.training.local_training import LocalTraining
from fedcircuit.learning.weights import get_weights

KINDS = ("simplex", "orthogonal")


@given(st.integers(2, 9), st.integers(0, 6), st.integers(0, 99))
def test_rows_of_a_simplex_have_unit_length_and_equal_angles(c: int, more: int, seed: int) -> None:
    rows = frozen_rows("simplex", c, c + more, seed=seed).double()
    expected = torch.full((c, c), -1 / (c - 1), dtype=torch.float64).fill_diagonal_(1)
    assert torch.allclose(rows @ rows.T, expected, atol=1e-5)
    assert torch.allclose(rows.sum(0), torch.zeros(c + more, dtype=torch.float64), atol=1e-5)


@given(st.integers(2, 9), st.integers(0, 6), st.integers(0, 99))
def test_rows_of_an_orthogonal_head_are_orthonormal(c: int, more: int, seed: int) -> None:
    rows = frozen_rows("orthogonal", c, c + more, seed=seed).double()
    assert torch.allclose(rows @ rows.T, torch.eye(c, dtype=torch.float64), atol=1e-5)


def test_two_classes_of_a_simplex_are_opposite() -> None:
    rows = frozen_rows("simplex", 2, 2, seed=0)
    assert torch.allclose(rows[0], -rows[1], atol=1e-6)


def test_the_seed_alone_decides() -> None:
    assert torch.equal(frozen_rows("simplex", 3, 5, seed=4), frozen_rows("simplex", 3, 5, seed=4))
    assert not torch.equal(
        frozen_rows("simplex", 3, 5, seed=4), frozen_rows("simplex", 3, 5, seed=5)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_scaled_cosines_of_features_and_rows(kind: str) -> None:
    model = with_frozen_head(
        nn.Sequential(nn.Identity(), nn.Linear(2, 2)), kind, seed=3, scale=4.0  # type: ignore[arg-type]
    )  # fmt: skip
    rows = frozen_rows(kind, 2, 2, seed=3)  # type: ignore[arg-type]
    logits = model(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert logits[0].tolist() == pytest.approx((4.0 * rows @ torch.tensor([0.6, 0.8])).tolist())
    assert logits[1].tolist() == [0.0, 0.0]
    along = float(model(rows[:1])[0, 0])
    assert along == pytest.approx(4.0)


def test_the_frame_is_the_formula_of_the_paper() -> None:
    """Independently: W = sqrt(C / (C - 1)) U (I - 11' / C), from the orthogonal head of a seed."""
    basis = frozen_rows("orthogonal", 3, 4, seed=2).double()
    expected = sqrt(3 / 2) * basis.T @ (torch.eye(3, dtype=torch.float64) - torch.ones(3, 3) / 3)
    assert torch.allclose(frozen_rows("simplex", 3, 4, seed=2).double(), expected.T, atol=1e-6)


def headed() -> nn.Module:
    return build_model("mlp", (6,), 3, seed=5, widths=(7, 4), head="simplex")


def test_the_head_stays_bit_identical_through_training_and_aggregation() -> None:
    start = copy.deepcopy(headed())
    training = LocalTraining(
        epochs=2, batch_size=8, lr=0.3, weight_decay=0.1, proximal_mu=0.1,
        sparsity=WeightSparsity(0.5), feddecorr_beta=0.1,
    )  # fmt: skip
    built: list[nn.Module] = []

    def factory() -> nn.Module:
        built.append(headed())
        return built[-1]

    app = client_app(factory, data_of, training, n_classes=3)
    weights = get_weights(headed())
    result = FedAvg().start(SortedGrid(app, 3), arrays_of(weights), num_rounds=2)
    after = weights_of(result.arrays)
    assert sorted(after) == ["1.bias", "1.weight", "3.bias", "3.weight"]  # the head is not sent
    assert all(not np.array_equal(after[name], weights[name]) for name in weights)
    for model in (*built, headed()):
        assert torch.equal(model[-1].weight, start[-1].weight)
    assert not list(start[-1].parameters())


def test_training_in_place_leaves_the_head_alone() -> None:
    from toy_federation import samples_of

    from fedcircuit.learning.training.local_training import train_local

    model, before = headed(), headed()[-1].weight.clone()
    train_local(model, samples_of(0), LocalTraining(epochs=3, lr=0.5), n_classes=3, seed=0)
    assert torch.equal(model[-1].weight, before)
    assert not torch.equal(model[1].weight, headed()[1].weight)


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_network_can_have_one_and_its_sites_are_found(name: str, kind: str) -> None:
    widths = (4,) * 8 if name == "vgg11" else (4, 4)
    shape = (1, 8, 8)
    plain = build_model(name, shape, 3, seed=1, widths=widths)
    model = build_model(name, shape, 3, seed=1, widths=widths, head=kind)  # type: ignore[arg-type]
    body = {n: v for n, v in plain.state_dict().items() if n in model.state_dict()}
    assert len(body) == len(plain.state_dict()) - 2
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in body.items())
    example = torch.randn(2, *shape)
    assert model.eval()(example).shape == (2, 3)
    sites = [site.name for site in find_sites(model, example)]
    assert sites == [site.name for site in find_sites(plain, example)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: build_model("mlp", (6,), 9, seed=0, widths=(7, 4), head="simplex"),
         "got 9 classes and 4 features; make the layer before it wider"),
        (lambda: frozen_rows("simplex", 1, 4, seed=0), "at least two classes"),
        (lambda: with_frozen_head(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), "simplex", seed=0),
         "the model ends with ReLU"),
        (lambda: with_frozen_head(nn.Sequential(nn.Linear(3, 3)), "round", seed=0),
         "head must be one of .*, got 'round'"),
        (lambda: with_frozen_head(nn.Sequential(nn.Linear(3, 3)), "simplex", seed=0, scale=0),
         "scale of a frozen head must be > 0, got 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        make()
