"""Samples that depend on each other, or on chance, are refused, and the module is named."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit import Probe, Samples, discover
from fedcircuit.circuits.edges.edge_discovery import edge_circuits
from fedcircuit.circuits.sites.finding import find_sites


class Between(nn.Module):
    """Something between two convolutions, and something behind the head."""

    def __init__(
        self,
        middle: Callable[["Between", Tensor], Tensor] = lambda _, x: x,
        end: Callable[[Tensor], Tensor] = lambda z: z,
    ) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.second, self.head = nn.Conv2d(4, 4, 3), nn.Linear(16, 3)
        self.middle, self.end = middle, end

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.middle(self, self.first(x).relu())).relu()
        return self.end(self.head(x.flatten(1)))


class Contrastive(nn.Module):
    """Less the mean of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.std(0, unbiased=False) + 1)


def chain(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), *middle, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


MIXED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batch norm without statistics": (
        lambda: chain(nn.BatchNorm2d(4, track_running_stats=False)),
        r"module '1' \(BatchNorm2d\) mixes them.*track_running_stats=True",
    ),
    "the same, deep inside": (
        lambda: chain(nn.Sequential(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)))),
        r"module '1\.0\.0' \(BatchNorm2d\)",
    ),
    "batch norm put into training by a forward": (
        lambda: Between(lambda net, x: net.norm.train()(x)), r"module 'norm' .*model\.eval\(\)"
    ),
    "batch norm as a function": (
        lambda: Between(lambda net, x: functional.batch_norm(x, None, None, training=True)),
        "what the forward of Between does between its modules mixes them",
    ),
    "contrastive normalisation": (
        lambda: chain(Contrastive()), r"module '1' \(Contrastive\) mixes them"
    ),
    "a softmax over the batch": (
        lambda: nn.Sequential(chain(), nn.Softmax(dim=0)), r"module '1' \(Softmax\).*dim=1"
    ),
    "logits less their mean": (
        lambda: Between(end=lambda z: z - z.mean(0)), "forward of Between .* mixes them"
    ),
    "the size of the batch": (lambda: Between(end=lambda z: z / len(z)), "forward of Between"),
    "samples before it alone": (lambda: Between(end=lambda z: z.cumsum(0)), "forward of Between"),
    "batch norm of the logits": (
        lambda: nn.Sequential(chain(), nn.BatchNorm1d(3, track_running_stats=False)),
        "takes two samples, but none alone: .* depends on the other samples .*in module '1'",
    ),
}  # fmt: skip
RANDOM: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout as a function": (
        lambda: Between(lambda net, x: functional.dropout(x, 0.3)), "forward of Between .* random"
    ),
    "noise": (lambda: Between(end=lambda z: z + torch.rand_like(z)), "forward of Between .*random"),
}  # fmt: skip
ALONE: dict[str, Callable[[], nn.Module]] = {
    "group norm": lambda: chain(nn.GroupNorm(2, 4)),
    "layer norm": lambda: chain(nn.LayerNorm((4, 4))),
    "instance norm": lambda: chain(nn.InstanceNorm2d(4)),
    "instance norm with statistics": lambda: chain(nn.InstanceNorm2d(4, track_running_stats=True)),
    "batch norm with statistics": lambda: chain(nn.BatchNorm2d(4)),
    "dropout as a module": lambda: chain(nn.Dropout(0.5), nn.Dropout2d(0.5)),
    "rounding of sixteen bits": lambda: Between(end=lambda z: z.bfloat16().float()),
}
INPUTS = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
PROBE = Probe.split(Samples(INPUTS, torch.arange(12) % 3), ["a", "b", "c"], 0)


def built(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().train()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", [*MIXED, *RANDOM])
def test_what_mixes_samples_or_draws_is_named_and_leaves_no_trace(
    name: str, kind: torch.dtype
) -> None:
    make, words = (MIXED | RANDOM)[name]
    model = built(make).to(kind)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    before = torch.get_rng_state()

    start = "depends on chance" if name in RANDOM else "depends on the other samples of the batch"
    with pytest.raises(ValueError, match=f"{start}.*") as raised:
        discover(model, PROBE)
    with pytest.raises(ValueError, match=words):
        edge_circuits(model, PROBE)

    assert raised.match(words)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", MIXED)
def test_an_example_of_zeros_shows_it_too(name: str) -> None:
    with pytest.raises(ValueError, match="other samples of the batch"):
        find_sites(built(MIXED[name][0]), torch.zeros(1, 1, 6, 6))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ALONE)
def test_what_looks_at_each_sample_alone_is_taken(name: str, kind: torch.dtype) -> None:
    model = built(ALONE[name]).to(kind)
    found = discover(model, PROBE, method="magnitude")
    assert found.masks.shape[0] == 3
    assert {p.dtype for p in model.parameters()} == {kind}
