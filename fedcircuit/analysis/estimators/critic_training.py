"""A small critic of pairs: the network, the three bounds, training until validation says stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fedcircuit.analysis.estimators.settings import CriticSettings

Pairs = tuple[Tensor, Tensor]  # [n, d] and [n, e]; row i of one belongs to row i of the other

_LOOK_EVERY = 25
_MOVING = 0.05  # weight of a new batch in MINE's moving average


@dataclass(frozen=True)
class Critic:
    """f(x, y) for all pairs: ``v . relu(g(x) + h(y)) + b`` with two-layer networks g and h."""

    parameters: tuple[Tensor, ...]

    @staticmethod
    def drawn(sizes: tuple[int, int], width: int, generator: torch.Generator) -> Critic:
        """A critic of inputs with these dimensions, its weights drawn from the generator."""
        made: list[Tensor] = []
        for size in sizes:
            for fan in (size, width):
                made.append(torch.randn(fan, width, generator=generator) * math.sqrt(2 / fan))
                made.append(torch.zeros(width))
        made.append(torch.randn(width, 1, generator=generator) * (0.1 / math.sqrt(width)))
        made.append(torch.zeros(1))
        return Critic(tuple(tensor.requires_grad_() for tensor in made))

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Scores ``[n, m]`` of every pair of ``[n, d]`` and ``[m, e]``."""
        p = self.parameters
        left = F.relu(first @ p[0] + p[1]) @ p[2] + p[3]
        right = F.relu(second @ p[4] + p[5]) @ p[6] + p[7]
        return (F.relu(left[:, None] + right) @ p[8] + p[9])[..., 0]  # [n, m]

    def copied(self) -> Critic:
        """A copy that no longer changes."""
        return Critic(tuple(tensor.detach().clone() for tensor in self.parameters))


def bound(scores: Tensor, method: str, tau: float) -> Tensor:
    """The estimate in nats from the scores ``[n, n]`` of a batch; the diagonal holds true pairs."""
    true = scores.diagonal().mean()
    if method == "infonce":
        return true - torch.logsumexp(scores, 1).mean() + math.log(len(scores))
    others = off_diagonal(scores)
    if method == "smile":
        others = others.clamp(-tau, tau)
    return true - torch.logsumexp(others, 0) + math.log(len(others))


def off_diagonal(scores: Tensor) -> Tensor:
    """All scores ``[n, n]`` but the diagonal ones, ``[n * (n - 1)]``."""
    n = len(scores)
    return scores.flatten()[1:].view(n - 1, n + 1)[:, :-1].flatten()


class Objective:
    """What a method minimises; MINE keeps a moving average of the partition function."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._moving: Tensor | None = None

    def __call__(self, scores: Tensor) -> Tensor:
        """Loss of the scores ``[n, n]`` of a batch."""
        if self._method == "infonce":
            return -bound(scores, "infonce", math.inf)
        others, true = off_diagonal(scores), scores.diagonal()
        if self._method == "smile":  # the Jensen-Shannon bound
            return F.softplus(-true).mean() + F.softplus(others).mean()
        now = torch.logsumexp(others, 0) - math.log(len(others))
        before = now.detach() if self._moving is None else self._moving
        old, new = math.log(1 - _MOVING), math.log(_MOVING)
        self._moving = torch.logaddexp(before + old, now.detach() + new)
        return torch.exp(now - self._moving) - true.mean()  # the gradient of now, scaled


def trained(
    train: Pairs, stop: Pairs, method: str, settings: CriticSettings, generator: torch.Generator
) -> Critic:
    """The critic with the best bound on the pairs ``stop``, of those met while training."""
    sizes = train[0].shape[1], train[1].shape[1]
    critic = Critic.drawn(sizes, settings.width, generator)
    best, best_bound, waited = critic.copied(), scored(critic, stop, method, settings), 0
    optimiser = torch.optim.Adam(critic.parameters, lr=settings.learning_rate)
    objective = Objective(method)
    batch = min(settings.batch, len(train[0]))
    for step in range(1, settings.steps + 1):
        drawn = torch.randperm(len(train[0]), generator=generator)[:batch]
        optimiser.zero_grad()
        loss = objective(critic(train[0][drawn], train[1][drawn]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % _LOOK_EVERY and step < settings.steps:
            continue
        found = scored(critic, stop, method, settings)
        waited += 1
        if found > best_bound:
            best, best_bound, waited = critic.copied(), found, 0
        elif waited >= settings.patience:
            break
    return best


@torch.no_grad()
def scored(critic: Critic, pairs: Pairs, method: str, settings: CriticSettings) -> float:
    """The mean bound over batches of about equal size, none above ``score_batch``."""
    n = len(pairs[0])
    parts = math.ceil(n / settings.score_batch)
    values = [
        float(bound(critic(first, second), method, settings.tau)) * len(first)
        for first, second in zip(
            pairs[0].tensor_split(parts), pairs[1].tensor_split(parts), strict=True
        )
    ]
    return sum(values) / n
