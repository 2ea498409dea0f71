from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from information_gaussian_pairs import NATS, pair, truth

from fedcircuit.analysis.estimators.critic_training import Critic, Objective, bound, off_diagonal
from fedcircuit.analysis.estimators.critics import critic_information
from fedcircuit.analysis.estimators.layer import layer_information
from fedcircuit.analysis.estimators.settings import CRITICS, CriticSettings

SCORES = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.25], [-0.5, 7.0, 3.0]], dtype=torch.float64)
FEW = replace(NATS, critic=CriticSettings(steps=100, width=32, patience=3))


def estimate(method: str, d: int, rho: float, steps: int = 100, seed: int = 0) -> float:
    settings = replace(FEW, critic=replace(FEW.critic, steps=steps))
    x, y = pair(2000, d, rho, seed)
    generator = torch.Generator().manual_seed(seed)
    return critic_information(x, y, settings, method=method, generator=generator).value


def test_the_scores_of_false_pairs_are_those_off_the_diagonal() -> None:
    assert off_diagonal(SCORES).tolist() == [0.5, -1.0, 0.0, 0.25, -0.5, 7.0]


def test_bounds_of_a_worked_example() -> None:
    e = math.exp
    rows = [e(2) + e(0.5) + e(-1), 1 + e(1) + e(0.25), e(-0.5) + e(7) + e(3)]
    infonce = 2 - sum(math.log(row / 3) for row in rows) / 3
    assert float(bound(SCORES, "infonce", 5.0)) == pytest.approx(infonce)
    others = e(0.5) + e(-1) + 1 + e(0.25) + e(-0.5)
    assert float(bound(SCORES, "mine", 5.0)) == pytest.approx(2 - math.log((others + e(7)) / 6))
    assert float(bound(SCORES, "smile", 5.0)) == pytest.approx(2 - math.log((others + e(5)) / 6))


def test_what_is_minimised_is_the_worked_example() -> None:
    assert float(Objective("infonce")(SCORES)) == pytest.approx(
        -float(bound(SCORES, "infonce", math.inf))
    )

    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    true = sum(softplus(-x) for x in (2.0, 1.0, 3.0)) / 3
    false = sum(softplus(x) for x in (0.5, -1.0, 0.0, 0.25, -0.5, 7.0)) / 6
    assert float(Objective("smile")(SCORES)) == pytest.approx(true + false)


def test_the_first_gradient_of_mine_is_that_of_its_bound() -> None:
    one, two = (SCORES.clone().requires_grad_() for _ in range(2))
    Objective("mine")(one).backward()
    (-bound(two, "mine", math.inf)).backward()
    assert one.grad is not None
    assert two.grad is not None
    torch.testing.assert_close(one.grad, two.grad)


def test_mine_divides_by_a_moving_average_of_its_partition_function() -> None:
    objective = Objective("mine")
    objective(SCORES)
    scores = (SCORES + 1.0).requires_grad_()  # the partition function is e times as large
    objective(scores).backward()
    plain = SCORES.clone().requires_grad_()
    (-bound(plain, "mine", math.inf)).backward()
    assert scores.grad is not None
    assert plain.grad is not None
    average = 0.95 + 0.05 * math.e
    false = ~torch.eye(3, dtype=torch.bool)
    torch.testing.assert_close(scores.grad[false], plain.grad[false] * math.e / average)


@pytest.mark.parametrize("method", CRITICS)
def test_the_true_density_ratio_gives_the_truth(method: str) -> None:
    x, y = (torch.from_numpy(values[:, 0]) for values in pair(1000, 1, 0.6))
    rho = 0.6
    square = (x**2)[:, None] * rho**2 + y**2 * rho**2 - 2 * rho * x[:, None] * y
    ratio = -square / (2 * (1 - rho**2)) - math.log(1 - rho**2) / 2
    assert float(bound(ratio, method, 5.0)) == pytest.approx(truth(1, rho), abs=0.06)


def test_a_critic_sees_every_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    critic = Critic.drawn((2, 3), 8, generator)
    x, y = torch.randn(4, 2, generator=generator), torch.randn(5, 3, generator=generator)
    scores = critic(x, y)
    assert scores.shape == (4, 5)
    torch.testing.assert_close(scores[2:3, 3:4], critic(x[2:3], y[3:4]))


@pytest.mark.parametrize("method", CRITICS)
@pytest.mark.parametrize("d", [1, 5])
def test_critics_find_nothing_in_independent_variables(method: str, d: int) -> None:
    assert abs(estimate(method, d, 0.0)) < 0.05


@pytest.mark.parametrize("method", CRITICS)
def test_critics_rise_with_the_correlation_towards_the_truth(method: str) -> None:
    values = [estimate(method, 1, rho, steps=200) for rho in (0.0, 0.5, 0.9)]
    assert values == sorted(values)
    assert values[1] == pytest.approx(truth(1, 0.5), abs=0.06)
    assert values[2] == pytest.approx(truth(1, 0.9), abs=0.15)


def test_the_same_generator_gives_the_same_numbers_and_leaves_the_global_one_alone() -> None:
    state = torch.get_rng_state()
    assert estimate("infonce", 1, 0.5, steps=25) == estimate("infonce", 1, 0.5, steps=25)
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_infonce_saturates_at_its_batch() -> None:
    x, _ = pair(400, 2, 0.5)
    critic = CriticSettings(steps=400, score_batch=8, width=32)
    settings = replace(NATS, critic=critic)
    generator = torch.Generator().manual_seed(0)
    found = critic_information(x, x, settings, method="infonce", generator=generator)
    assert math.log(8) * 0.9 < found.value <= math.log(8)
    assert found.saturated


def test_critics_read_labels_too() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    layer = rng.standard_normal((600, 2)) + 4 * np.eye(3, 2)[labels]
    for method in CRITICS:
        settings = replace(FEW, labels=method, permutations=1)
        found = layer_information(layer, labels, settings, seed=0)[-1]
        assert found.estimator == method
        assert found.value > 0.6
        assert abs(found.null) < 0.05


def test_too_few_samples_are_undefined_and_unknown_critics_refused() -> None:
    x, y = pair(19, 1, 0.5)
    generator = torch.Generator()
    few = critic_information(x, y, NATS, method="mine", generator=generator)
    assert math.isnan(few.value)
    assert few.reason.startswith("19 samples are too few")
    with pytest.raises(ValueError, match="method must be one of infonce, mine, smile, got 'dv'"):
        critic_information(x, y, NATS, method="dv", generator=generator)
