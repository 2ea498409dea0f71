"""Learned gates: noisy binary masks of all classes in one optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from fedcircuit.circuits import split_by_site
from fedcircuit.circuits.search import (
    Discovery,
    SearchedModel,
    SearchingMethod,
    absent_reasons,
    class_stream,
    reasons_for,
    shared_gradients,
)
from fedcircuit.circuits.sites import gated
from fedcircuit.logits import logits_of
from fedcircuit.ranges import require_at_least

Kind = Literal["hard-concrete", "straight-through"]
# Stretched concrete distribution of Louizos et al. 2018, arXiv 1712.01312
_BETA, _LOW, _HIGH = 2.0 / 3.0, -0.1, 1.1


@dataclass(frozen=True)
class LearnedGates(SearchingMethod):
    """Gates learned under noise (Louizos et al. 2018, arXiv 1712.01312), one row for every class.

    Every sample runs through the row of one class, with noise of its own. The loss of a class is
    the Kullback-Leibler divergence of "is it this class?" from the full model to the circuit, on
    as many samples of the class as of other classes (each of these as likely as the next), plus
    ``l0`` times the expected share of open units. The sum over classes separates over rows: one
    optimisation is as many independent ones. The mask with the best noiseless loss on the first
    batch is kept.

    Parameters
    ----------
    kind
        ``hard-concrete``: gates between 0 and 1, often exactly 0 or 1. ``straight-through``:
        gates 0 or 1, with the gradient of the relaxed ones (Jang et al. 2017, arXiv 1611.01144).
        Both draw noise for every sample: straight-through gates without noise, from a common
        start, all move by the same step of Adam, so that only the signs of gradients count.
    steps
        At most this many steps of Adam (betas 0.9, 0.99).
    lr
        Rate of Adam.
    l0
        Price of opening all units.
    samples
        Samples of the class, and of other classes, in every step.
    init
        Start of every gate's logit.
    warm_start
        Start from the ranks of attribution scores instead: the logits are spread normally, with
        mean ``init`` and standard deviation 1, in the order of the scores. Circuits become
        smaller and mostly more alike between seeds, but are no longer a second opinion on those
        of attribution.
    still_steps
        Stop a class when fewer than 0.2 % of its gates flip for this many steps.

    Raises
    ------
    ValueError
        If the kind is unknown, or a number is out of range.
    """

    name: ClassVar[str] = "gates"

    kind: Kind = "hard-concrete"
    steps: int = 60
    lr: float = 0.2
    l0: float = 0.3
    samples: int = 8
    init: float = 1.0
    warm_start: bool = False
    still_steps: int = 5

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, got {self.kind!r}")
        numbers = {"steps": self.steps, "samples": self.samples, "still_steps": self.still_steps}
        require_at_least(1, "method 'gates'", **numbers)

    def search(self, searched: SearchedModel) -> Discovery:
        """Circuits of all classes; ``converged`` says whose gates stood still."""
        reasons = absent_reasons(searched.samples.counts(searched.n_classes))
        classes = [index for index, reason in enumerate(reasons) if not reason]
        converged: list[bool | None] = [None] * len(reasons)
        masks, scores = searched.nothing()
        if classes:
            search = _Search(self, searched, classes)
            masks[classes], scores[classes] = search.best_masks, search.theta.detach()
            for row, index in enumerate(classes):
                converged[index] = bool(search.still[row])
        found = masks.any(1)
        reasons = reasons_for(found, reasons, "all gates closed")
        cost = searched.meter.cost()
        return Discovery(searched.sites, masks, found, scores, reasons, cost, tuple(converged))


class _Search:
    """One run of the optimisation; its fields hold what came out."""

    def __init__(
        self, method: LearnedGates, problem: SearchedModel, classes: Sequence[int]
    ) -> None:
        self._method, self._problem = method, problem
        self._classes = torch.tensor(classes)
        # a stream for each class: its gates do not depend on which others are sought
        self._generators = [class_stream(problem.generator, index) for index in classes]
        samples, memory = problem.samples, problem.memory
        self._at_once = memory.rows(graph=True, most=len(classes) * 2 * method.samples)
        rows = memory.rows(graph=False, most=len(samples))
        with torch.no_grad():
            parts = [logits_of(problem.model, few) for few in torch.split(samples.inputs, rows)]
            self._full = functional.log_softmax(torch.cat(parts).float().cpu(), dim=1)
        problem.meter.forward += len(samples)
        self.theta = self._start().requires_grad_()
        self.best_masks = torch.ones_like(self.theta, dtype=torch.bool)
        self._best_loss = torch.full((len(classes),), torch.inf)
        self.still = torch.zeros(len(classes), dtype=torch.bool)
        self._trial = self._draw()
        self._run()

    def _start(self) -> Tensor:
        """Logits before the first step, ``[classes, units]``."""
        n_units = self._problem.n_units
        theta = torch.full((len(self._classes), n_units), self._method.init)
        if not self._method.warm_start:
            return theta
        scores = shared_gradients(self._problem, torch.ones(n_units))
        ranks = scores[self._classes].argsort(dim=1, stable=True).argsort(dim=1)
        spread: Tensor = torch.special.ndtri((ranks + 0.5) / n_units)
        return theta + spread

    def _run(self) -> None:
        optimizer = torch.optim.Adam([self.theta], lr=self._method.lr, betas=(0.9, 0.99))
        quiet = torch.zeros(len(self._classes), dtype=torch.int64)
        before = self.theta.detach() > 0
        for step in range(self._method.steps):
            optimizer.zero_grad()
            self._add_gradients(*self._draw())
            active = ~self.still
            held = self.theta.detach().clone()
            optimizer.step()
            with torch.no_grad():
                self.theta[self.still] = held[self.still]
            now = self.theta.detach() > 0
            calm = (now != before).float().mean(1) < 0.002
            quiet = torch.where(calm, quiet + 1, 0)
            before = now
            if step % 5 == 4 or step + 1 == self._method.steps:
                self._keep_best(now, active)
            self.still |= quiet >= self._method.still_steps
            if bool(self.still.all()):
                break
        self._keep_best(before, torch.ones_like(self.still))

    def _add_gradients(self, index: Tensor, rows: Tensor) -> None:
        """Gradients of the loss of all classes, as many classes at a time as memory allows."""
        each = 2 * self._method.samples
        for part in torch.split(torch.arange(len(self._classes)), max(1, self._at_once // each)):
            first, last = int(part[0]), int(part[-1]) + 1
            noise = torch.cat(
                [torch.rand(each, self.theta.shape[1], generator=g)
                 for g in self._generators[first:last]]
            ).clamp_(1e-6, 1 - 1e-6)  # fmt: skip
            with torch.enable_grad():
                few = slice(first * each, last * each)
                gates = _sample(self.theta[rows[few]], noise, self._method.kind)
                loss = self._loss(index[few], rows[few], gates).sum()
                loss = loss + self._method.l0 * self._open()[first:last].sum()
            loss.backward()  # type: ignore[no-untyped-call]

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Positions ``[classes * 2 * samples]`` and the row of each: half own, half others."""
        labels, n_classes = self._problem.samples.labels, self._problem.n_classes
        each = 1.0 / torch.bincount(labels, minlength=n_classes)[labels]  # classes weigh the same
        picks = []
        for target, generator in zip(self._classes.tolist(), self._generators, strict=True):
            for mine in (labels == target, labels != target):
                chances = torch.where(mine, each, 0.0)
                draw = torch.multinomial(
                    chances, self._method.samples, replacement=True, generator=generator
                )
                picks.append(draw)
        rows = torch.arange(len(self._classes)).repeat_interleave(2 * self._method.samples)
        return torch.cat(picks), rows

    def _loss(self, index: Tensor, rows: Tensor, gates: Tensor) -> Tensor:
        """Mean divergence of each class's binary prediction, ``[classes]``."""
        p = self._problem
        parts = split_by_site(gates, p.sites)
        with gated(p.model, p.sites, parts, p.reference(index)):
            logits = logits_of(p.model, p.samples.inputs[index])
        p.meter.forward += len(index)
        if gates.requires_grad:
            p.meter.backward += len(index)
        target = self._classes[rows]
        logits = logits.float().cpu()
        circuit = functional.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
        full = self._full[index].gather(1, target.unsqueeze(1)).squeeze(1)
        divergence = _bernoulli_kl(full, circuit)
        return torch.zeros(len(self._classes)).index_add(0, rows, divergence) / (
            2 * self._method.samples
        )

    def _open(self) -> Tensor:
        """Expected share of open gates of each class."""
        threshold = _BETA * log(-_LOW / _HIGH) if self._method.kind == "hard-concrete" else 0.0
        return torch.sigmoid(self.theta - threshold).mean(1)

    @torch.no_grad()
    def _keep_best(self, masks: Tensor, active: Tensor) -> None:
        index, rows = self._trial
        loss = sum(
            self._loss(index[few], rows[few], masks[rows[few]].float())
            for few in torch.split(torch.arange(len(rows)), self._at_once)
        )
        loss = loss + self._method.l0 * masks.float().mean(1)
        better = active & (loss < self._best_loss)
        self._best_loss = torch.where(better, loss, self._best_loss)
        self.best_masks[better] = masks[better]


def _sample(theta: Tensor, noise: Tensor, kind: Kind) -> Tensor:
    """Gates under uniform noise; they are open on average where ``theta`` is positive."""
    soft = torch.sigmoid((noise.log() - (1 - noise).log() + theta) / _BETA)
    if kind == "hard-concrete":
        return (soft * (_HIGH - _LOW) + _LOW).clamp(0.0, 1.0)
    return (soft > 0.5).to(soft.dtype) + soft - soft.detach()


def _bernoulli_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(Bern(p) || Bern(q)) from log-probabilities, finite by clipping at 1e-6."""
    p = log_p.exp().clamp(1e-6, 1 - 1e-6)
    q = log_q.exp().clamp(1e-6, 1 - 1e-6)
    return p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())
