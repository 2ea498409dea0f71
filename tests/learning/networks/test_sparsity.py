from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedcircuit.learning.networks.layers import layer_weights
from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.networks.sparsity import (
    WeightSparsity,
    density,
    magnitude_mask,
    n_kept,
    sparsified,
    sparsify_,
)
from fedcircuit.learning.weights import get_weights


def exact_count(sparsity: float, n: int) -> int:
    """``floor((1 - sparsity) * n)`` in decimal arithmetic."""
    return max(1, int((1 - Decimal(repr(sparsity))) * n))


def brute_force_mask(weight: Tensor, sparsity: float, min_alive: int) -> Tensor:
    """The specification, filter by filter and weight by weight."""
    flat = weight.flatten().abs().tolist()
    ranked = sorted(range(len(flat)), key=lambda place: (-flat[place], place))
    mask = torch.zeros(len(flat), dtype=torch.bool)
    mask[ranked[: exact_count(sparsity, len(flat))]] = True
    mask = mask.reshape(weight.shape)
    if weight.ndim > 2:
        for index in range(len(weight)):
            if int(mask[index].sum()) < min_alive:
                own = weight[index].flatten().abs().tolist()
                for place in sorted(range(len(own)), key=lambda i: (-own[i], i))[:min_alive]:
                    mask[index].view(-1)[place] = True
    return mask


def test_the_largest_weights_are_kept_and_a_dying_filter_gets_its_own_back() -> None:
    weight = torch.tensor([[9.0, -8.0, 7.0, 6.0], [0.1, -0.4, 0.3, 0.2]]).reshape(2, 1, 2, 2)

    mask = magnitude_mask(weight, 0.5, min_alive=2)

    # int(.5 * 8) = 4 largest: the whole first filter; the second gets -0.4 and 0.3 back
    assert mask.flatten().tolist() == [True] * 4 + [False, True, True, False]


def test_linear_layers_get_no_filter_back() -> None:
    weight = torch.tensor([[9.0, -8.0], [0.1, -0.4]])

    assert magnitude_mask(weight, 0.5, min_alive=1).tolist() == [[True, True], [False, False]]


@given(
    st.integers(0, 10_000),
    st.integers(0, 1000).map(lambda thousandths: thousandths / 1000),
    st.integers(0, 5),
    st.sampled_from([(3, 2, 3, 3), (4, 1, 2, 2), (5, 7)]),
    st.booleans(),
)
def test_masks_equal_the_specification_written_as_loops(
    seed: int, sparsity: float, min_alive: int, shape: tuple[int, ...], ties: bool
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    weight = weight.round() if ties else weight

    mask = magnitude_mask(weight, sparsity, min_alive=min_alive)

    assert torch.equal(mask, brute_force_mask(weight, sparsity, min_alive))


def test_simple_cnn_at_sparsity_997_keeps_what_the_published_code_keeps() -> None:
    model = build_model("simple-cnn", (1, 28, 28), 10, seed=0)

    sparsify_(model, 0.997, min_alive=4)

    kept = [int((p != 0).sum()) for p in model.parameters() if p.ndim > 1]
    assert kept[0] == 128  # 32 filters of 4, of 288: real sparsity 55.6 %
    assert kept[1] == 256
    assert abs(kept[2] - 520) <= 10  # 520 in one initialisation of the published code
    assert kept[3] == 34
    assert all(bool((p != 0).all()) for p in model.parameters() if p.ndim == 1)


def test_density_is_the_share_of_non_zero_weights_without_biases() -> None:
    weights = {"w": np.array([[0.0, 2.0], [0.0, 0.0]]), "b": np.array([1.0, 0.0])}

    assert density(weights) == {"w": 0.25}


def test_sparsified_weights_leave_the_given_ones_alone() -> None:
    model = build_model("mlp", (1, 8, 8), 10, seed=0)
    before = get_weights(model)

    cut = sparsified(model, WeightSparsity(0.9))

    assert all(np.array_equal(get_weights(model)[name], before[name]) for name in before)
    assert density(cut)["1.weight"] == pytest.approx(0.1, abs=1e-3)
    assert list(cut) == list(before)


def test_sparsity_grows_linearly_over_half_the_round_and_then_stays() -> None:
    sparsity = WeightSparsity(0.8, anneal=0.5)

    assert [sparsity.at(step, 8) for step in range(6)] == pytest.approx(
        [0.0, 0.2, 0.4, 0.6, 0.8, 0.8]
    )


def test_a_target_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(ValueError, match=r"target of the sparsity must lie in \[0, 1\], got 1.2"):
        WeightSparsity(1.2)


def test_pruned_weights_are_plus_zero() -> None:
    model = build_model("mlp", (1, 8, 8), 10, seed=0)

    sparsify_(model, 0.9, min_alive=0)
    cut = sparsified(model, WeightSparsity(0.95))

    for values in (*get_weights(model).values(), *cut.values()):
        assert not np.signbit(values[values == 0]).any()


@given(st.integers(1, 10**6), st.integers(0, 10_000))
def test_the_number_kept_is_that_of_decimal_arithmetic(n: int, ten_thousandths: int) -> None:
    sparsity = ten_thousandths / 10_000

    assert n_kept(n, sparsity) == exact_count(sparsity, n)


def test_the_published_count_is_one_less_where_floating_point_falls_short() -> None:
    assert (n_kept(100, 0.9), n_kept(10, 0.8), n_kept(1000, 0.99)) == (10, 2, 10)
    assert (n_kept(100, 0.9, "published"), n_kept(10, 0.8, "published")) == (9, 1)
    assert n_kept(11_520, 0.997) == n_kept(11_520, 0.997, "published") == 34


def test_of_equal_magnitudes_the_first_are_kept_and_with_the_published_rule_all() -> None:
    weight = torch.tensor([[1.0, -2.0, 2.0, -2.0, 2.0, 0.5, 2.0, 3.0]])

    assert magnitude_mask(weight, 0.625, min_alive=0).nonzero()[:, 1].tolist() == [1, 2, 7]
    published = magnitude_mask(weight, 0.625, min_alive=0, count="published")
    assert published.nonzero()[:, 1].tolist() == [1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize("count", ["exact", "published"])
def test_a_weight_that_is_not_a_number_is_kept_where_it_is_seen(count: str) -> None:
    weight = torch.tensor([[1.0, torch.nan, 3.0, torch.inf, 2.0]])

    mask = magnitude_mask(weight, 0.4, min_alive=0, count=count)  # type: ignore[arg-type]

    assert mask.tolist() == [[False, True, True, True, False]]


class Own(nn.Module):
    """A layer of one's own beside everything that has two dimensions and is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.bias = nn.Parameter(torch.randn(2, 2))
        self.cls_token = nn.Parameter(torch.randn(1, 4))
        self.pos_embed = nn.Parameter(torch.randn(3, 4))
        self.table = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm((3, 4), bias=False)
        nn.init.normal_(self.norm.weight)
        self.attention = nn.MultiheadAttention(4, 2)
        self.memory = nn.GRU(4, 3)
        self.out = nn.Linear(4, 2)


LAYERS = [
    "weight", "attention.in_proj_weight", "attention.out_proj.weight", "memory.weight_ih_l0",
    "memory.weight_hh_l0", "out.weight",
]  # fmt: skip


def test_only_weights_of_layers_are_pruned_and_with_the_published_rule_every_matrix() -> None:
    exact, published = Own(), Own()

    sparsify_(exact, 0.5, min_alive=0)
    sparsify_(published, 0.5, min_alive=0, count="published")

    assert list(layer_weights(exact)) == LAYERS
    assert {n for n, p in exact.named_parameters() if bool((p == 0).any()) and p.ndim > 1} == {
        *LAYERS
    }
    assert all(bool((p == 0).any()) for p in published.parameters() if p.ndim > 1)


def test_a_table_that_a_layer_shares_is_pruned_as_the_layer() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(6, 4), "out": nn.Linear(4, 6, bias=False)})
    model["out"].weight = model["table"].weight

    assert list(layer_weights(model)) == ["table.weight"]


def test_a_count_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="count must be one of .*'published'.* got 'nearest'"):
        WeightSparsity(0.5, count="nearest")  # type: ignore[arg-type]
