import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedcircuit.learning.models import build_model
from fedcircuit.learning.sparsity import (
    WeightSparsity,
    density,
    magnitude_mask,
    sparsified,
    sparsify_,
)
from fedcircuit.learning.weights import get_weights


def brute_force_mask(weight: Tensor, sparsity: float, min_alive: int) -> Tensor:
    """The specification, filter by filter and weight by weight."""
    flat = weight.flatten().abs().tolist()
    n_keep = max(1, int((1 - sparsity) * len(flat)))
    threshold = sorted(flat, reverse=True)[n_keep - 1]
    mask = torch.tensor([value >= threshold for value in flat]).reshape(weight.shape)
    if weight.ndim > 2:
        for index in range(len(weight)):
            if int(mask[index].sum()) < min_alive:
                own = weight[index].flatten().abs()
                for position in own.argsort(descending=True)[:min_alive].tolist():
                    mask[index].view(-1)[position] = True
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
    st.floats(0.0, 1.0),
    st.integers(0, 5),
    st.sampled_from([(3, 2, 3, 3), (4, 1, 2, 2), (5, 7)]),
)
def test_masks_equal_the_specification_written_as_loops(
    seed: int, sparsity: float, min_alive: int, shape: tuple[int, ...]
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))

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
    weights = get_weights(build_model("mlp", (1, 8, 8), 10, seed=0))
    before = {name: values.copy() for name, values in weights.items()}

    cut = sparsified(weights, WeightSparsity(0.9))

    assert all(np.array_equal(weights[name], before[name]) for name in weights)
    assert density(cut)["1.weight"] == pytest.approx(0.1, abs=1e-3)


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
    cut = sparsified(get_weights(model), WeightSparsity(0.95))

    for values in (*get_weights(model).values(), *cut.values()):
        assert not np.signbit(values[values == 0]).any()
