"""Our optimisers against those of torch.optim: the same bits after every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedcircuit.learning.training.optimizer_state import optimizer_arrays, restore_optimizer_
from fedcircuit.learning.training.optimizer_steps import SGD, Adam, adam, on_cpu, sgd

CASES: list[tuple[str, dict[str, Any]]] = [
    ("adam", {"lr": 0.01}),
    ("adam", {"lr": 0.003, "weight_decay": 0.1}),
    ("sgd", {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}),
    ("sgd", {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.01}),
]
OURS = {"adam": adam, "sgd": sgd}
TORCH = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    """A convolution whose memory is not contiguous, linear layers, and one without a gradient."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(27, 5), nn.Linear(5, 2))
    net[0].weight.data = net[0].weight.data.to(memory_format=torch.channels_last)
    net.register_parameter("unused", nn.Parameter(torch.ones(3)))
    return net.to(dtype)


def step(net: nn.Module, optimizer: Any, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    inputs = torch.randn(6, 1, 4, 4, generator=generator, dtype=next(net.parameters()).dtype)
    optimizer.zero_grad()
    net(inputs).square().mean().backward()
    optimizer.step()


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: p.detach().numpy().tobytes() for name, p in net.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_every_step_gives_the_bits_that_torch_gives(
    kind: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    own, known = network(dtype), network(dtype)
    ours = OURS[kind](tuple(own.parameters()), **options)
    torchs = TORCH[kind](known.parameters(), **options)
    assert isinstance(ours, (Adam, SGD))
    for number in range(12):
        step(own, ours, number)
        step(known, torchs, number)
        assert bits(own) == bits(known), number
    kept = optimizer_arrays(own, ours)
    expected = optimizer_arrays(known, torchs)
    assert {k: v.tobytes() for k, v in kept.items()} == {
        k: v.tobytes() for k, v in expected.items()
    }
    assert not any(name.startswith("unused") for name in kept)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_kept_state_goes_on_as_if_nothing_had_stopped(kind: str, options: dict[str, Any]) -> None:
    through, stopped = network(), network()
    first = OURS[kind](tuple(through.parameters()), **options)
    second = OURS[kind](tuple(stopped.parameters()), **options)
    for number in range(6):
        if number == 3:
            kept = optimizer_arrays(stopped, second)
            second = OURS[kind](tuple(stopped.parameters()), **options)
            restore_optimizer_(stopped, second, kept)
        step(through, first, number)
        step(stopped, second, number)
    assert bits(through) == bits(stopped)


def test_what_is_not_plain_numbers_on_the_cpu_is_left_to_torch() -> None:
    def parameter(values: Tensor) -> nn.Parameter:
        return nn.Parameter(values)

    plain, complex_ = parameter(torch.ones(2)), parameter(torch.ones(2, dtype=torch.complex64))
    elsewhere = parameter(torch.ones(2, device="meta"))
    assert on_cpu((plain,))
    assert not on_cpu((plain, complex_))
    assert not on_cpu((plain, elsewhere))
    assert isinstance(adam((complex_,), lr=0.1), torch.optim.Adam)
    assert isinstance(sgd((elsewhere,), lr=0.1, momentum=0.0, weight_decay=0.0), torch.optim.SGD)
