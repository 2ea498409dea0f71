import copy
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedcircuit.circuits.overlap.alignment import align, linear_cka, site_cka
from fedcircuit.circuits.sites.finding import find_sites


def network(seed: int = 0) -> nn.Sequential:
    """Two convolutions and a hidden linear layer; every activation can be negative."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 5, 3), nn.Tanh(), nn.Conv2d(5, 4, 3), nn.Tanh(), nn.Flatten(),
            nn.Linear(4 * 4 * 4, 6), nn.Tanh(), nn.Linear(6, 3),
        )  # fmt: skip


def inputs(n: int = 40) -> torch.Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(7))


def reordered(model: nn.Sequential, order: torch.Tensor) -> nn.Sequential:
    """The same function with the units of the second convolution in another order."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        result[2].weight.copy_(model[2].weight[order])
        result[2].bias.copy_(model[2].bias[order])
        columns = torch.arange(64).reshape(4, 16)[order].flatten()
        result[5].weight.copy_(model[5].weight[:, columns])
    return result


MODEL = network()
SITES = find_sites(MODEL, inputs(1))


def test_a_model_is_aligned_with_itself() -> None:
    result = align(MODEL, MODEL, SITES, inputs())
    assert [site.site for site in result.sites] == ["0", "2", "5"]
    for site in result.sites:
        assert site.own_share == 1.0
        assert site.own_correlation == pytest.approx(1.0)
        assert site.matched_correlation == pytest.approx(1.0)
        assert (site.dead_a, site.dead_b) == (0, 0)
    assert result.permutation.tolist() == list(range(15))
    assert [site.n_alive for site in result.sites] == [5, 4, 6]


@given(st.permutations(range(4)))
def test_units_in_another_order_are_found(order) -> None:
    other = reordered(MODEL, torch.tensor(order))
    torch.testing.assert_close(other(inputs(2)), MODEL(inputs(2)))
    result = align(MODEL, other, SITES, inputs())
    middle = result.sites[1]
    assert torch.tensor(order)[middle.match].tolist() == [0, 1, 2, 3]
    assert middle.own_share == np.mean([i == unit for i, unit in enumerate(order)])
    assert middle.matched_correlation == pytest.approx(1.0)
    assert result.sites[0].own_share == result.sites[2].own_share == 1.0
    # a circuit of the other model, brought to this model's order
    circuit = torch.rand(3, 15, generator=torch.Generator().manual_seed(0)) < 0.5
    there = circuit.clone()
    there[:, 5:9] = circuit[:, 5:9][:, torch.tensor(order)]
    assert torch.equal(result.in_first(there), circuit)


def test_the_match_is_the_best_of_all_orders() -> None:
    other = network(1)
    result = align(MODEL, other, SITES, inputs())
    with torch.no_grad():
        a, b = (model[:4](inputs()).movedim(1, 0).flatten(1).numpy() for model in (MODEL, other))
    correlation = np.corrcoef(a, b)[:4, 4:]
    sums = {p: sum(correlation[i, j] for i, j in enumerate(p)) for p in permutations(range(4))}
    best = max(sums, key=sums.__getitem__)
    middle = result.sites[1]
    assert tuple(middle.match.tolist()) == best
    assert middle.matched_correlation == pytest.approx(sums[best] / 4)
    assert middle.own_correlation == pytest.approx(correlation.diagonal().mean())
    assert middle.own_share == np.mean([i == j for i, j in enumerate(best)])


def with_dead(model: nn.Sequential, *units: int) -> nn.Sequential:
    """The model with constant units in the second convolution."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        result[2].weight[list(units)] = 0.0
        result[2].bias[list(units)] = 0.7
    return result


def test_dead_units_are_left_out_and_keep_their_places() -> None:
    middle = align(with_dead(MODEL, 1), with_dead(MODEL, 1, 3), SITES, inputs()).sites[1]
    assert (middle.n_alive, middle.dead_a, middle.dead_b) == (2, 1, 2)
    assert middle.own_share == 1.0
    assert middle.own_correlation == pytest.approx(1.0)
    assert middle.match.tolist() == [0, 1, 2, 3]


def test_units_dead_in_one_model_alone_are_not_compared() -> None:
    middle = align(with_dead(MODEL, 0), with_dead(MODEL, 3), SITES, inputs()).sites[1]
    assert (middle.n_alive, middle.dead_a, middle.dead_b) == (2, 1, 1)
    assert middle.own_share == 1.0
    assert middle.match.tolist() == [3, 1, 2, 0]  # 3 of A has none but 0 of B left to match


def test_units_left_over_fill_what_is_free() -> None:
    # in B the units 0 and 1 of A are at 3 and 0, the others are dead
    order = torch.tensor([1, 2, 3, 0])
    other = with_dead(reordered(MODEL, order), 1, 2)
    middle = align(MODEL, other, SITES, inputs()).sites[1]
    assert sorted(middle.match.tolist()) == [0, 1, 2, 3]
    assert middle.match[0] == 3
    assert middle.match[1] == 0
    assert middle.match[2] == 2  # stays, its place is free
    assert middle.own_share == 0.0


def test_without_a_unit_alive_in_both_nothing_is_known() -> None:
    middle = align(with_dead(MODEL, 0, 1, 2, 3), MODEL, SITES, inputs()).sites[1]
    assert middle.n_alive == 0
    assert all(
        math.isnan(x)
        for x in (middle.own_share, middle.own_correlation, middle.matched_correlation)
    )
    assert middle.match.tolist() == [0, 1, 2, 3]


def test_models_of_other_shapes_are_refused() -> None:
    other = network()
    other[2] = nn.Conv2d(5, 3, 3)
    other[5] = nn.Linear(3 * 16, 6)
    with pytest.raises(ValueError, match="site '2' must be the same in both"):
        align(MODEL, other, SITES, inputs())


def test_cka_by_hand() -> None:
    # centred x is (-1, 0, 1), centred y is (-1, 2, -1) and (-1, 0, 1) beside it:
    # ||x'y||^2 = 0 + 4, ||x'x|| = 2, y'y = diag(6, 2): sqrt(40)
    x = torch.tensor([[0.0], [1.0], [2.0]])
    y = torch.tensor([[1.0, 3.0], [4.0, 4.0], [1.0, 5.0]])
    assert linear_cka(x, y) == pytest.approx(4 / (2 * math.sqrt(40)))
    assert linear_cka(x, y[:, :1]) == pytest.approx(0.0, abs=1e-7)


def features(seed: int, n: int = 12, width: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator, dtype=torch.float64)


@given(st.integers(0, 500), st.floats(0.1, 10), st.booleans())
def test_cka_does_not_depend_on_basis_scale_or_origin(seed, scale, debiased) -> None:
    x, y = features(seed), features(seed + 1, width=3)
    rotation = torch.linalg.qr(features(seed + 2, n=5)).Q
    given_value = linear_cka(x, y, debiased=debiased)
    moved = linear_cka(scale * x @ rotation + 3, y, debiased=debiased)
    assert moved == pytest.approx(given_value, abs=1e-9)
    assert linear_cka(y, x, debiased=debiased) == pytest.approx(given_value, abs=1e-9)
    assert linear_cka(x, scale * x @ rotation - 1, debiased=debiased) == pytest.approx(1.0)
    assert given_value <= 1 + 1e-9
    assert debiased or given_value >= 0


def test_debiased_cka_is_the_mean_over_disjoint_quadruples() -> None:
    # the unbiased HSIC is the mean over ordered quadruples of distinct samples of
    # k_ij l_ij + k_ij l_qr - 2 k_ij l_iq (Song et al. 2012)
    x, y = features(0, n=6), features(1, n=6)

    def hsic(k: torch.Tensor, m: torch.Tensor) -> float:
        values = [
            float(k[i, j] * m[i, j] + k[i, j] * m[q, r] - 2 * k[i, j] * m[i, q])
            for i, j, q, r in permutations(range(6), 4)
        ]
        return float(np.mean(values))

    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))
    assert linear_cka(x, y, debiased=True) == pytest.approx(expected)


def test_unrelated_wide_features_are_alike_only_with_the_bias() -> None:
    plain, debiased = [], []
    for seed in range(10):
        x, y = features(seed, n=20, width=2000), features(seed + 100, n=20, width=2000)
        plain.append(linear_cka(x, y))
        debiased.append(linear_cka(x, y, debiased=True))
    assert np.mean(plain) > 0.9
    assert abs(np.mean(debiased)) < 0.1


def test_cka_of_what_does_not_vary_is_not_defined() -> None:
    x, constant = features(0), torch.full((12, 5), 0.1)
    assert math.isnan(linear_cka(x, constant))
    assert math.isnan(linear_cka(torch.zeros(12, 2), x))
    assert math.isnan(linear_cka(x[:1], x[:1]))
    assert math.isnan(linear_cka(x[:3], x[:3], debiased=True))
    assert math.isnan(linear_cka(x[:0], x[:0]))


def test_cka_needs_the_same_samples() -> None:
    with pytest.raises(ValueError, match="same n samples"):
        linear_cka(features(0), features(0)[:5])


def test_cka_of_every_site() -> None:
    other = reordered(MODEL, torch.tensor([2, 0, 3, 1]))
    same = site_cka(MODEL, other, SITES, inputs())
    assert list(same) == ["0", "2", "5"]
    assert all(value == pytest.approx((1.0, 1.0)) for value in same.values())
    different = site_cka(MODEL, network(1), SITES, inputs())["5"]
    with torch.no_grad():
        x, y = MODEL[:7](inputs()).double(), network(1)[:7](inputs()).double()
    x, y = x - x.mean(0), y - y.mean(0)
    expected = torch.linalg.norm(x.T @ y) ** 2 / (
        torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y)
    )
    assert different[0] == pytest.approx(float(expected))
    assert different[1] < different[0]
    dead = site_cka(MODEL, with_dead(MODEL, 0, 1, 2, 3), SITES, inputs())["2"]
    assert all(math.isnan(value) for value in dead)
