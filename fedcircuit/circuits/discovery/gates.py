"""Learned gates: hard-concrete masks of all classes in one optimisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits.circuit import Site, split_by_site
from fedcircuit.circuits.discovery.protocol import Discovery, Meter, Task, absent_reasons, frozen
from fedcircuit.circuits.sites import evaluating, gated

# Stretched concrete distribution of Louizos et al. 2018, arXiv 1712.01312
_BETA, _LOW, _HIGH = 2.0 / 3.0, -0.1, 1.1


@dataclass(frozen=True)
class LearnedGates:
    """Hard-concrete gates (Louizos et al. 2018, arXiv 1712.01312), one row for every class.

    Every sample runs through the row of one class, with noise of its own. The loss of a class is
    the Kullback-Leibler divergence of "is it this class?" from the full model to the circuit, on
    as many samples of the class as of other classes, plus ``l0`` times the expected share of open
    units. The sum over classes separates over rows: one optimisation is as many independent ones.
    The mask with the best noiseless loss on the first batch is kept.

    Parameters
    ----------
    steps, lr
        At most this many steps of Adam (betas 0.9, 0.99), and its rate.
    l0
        Price of opening all units.
    samples
        Samples of the class, and of other classes, in every step.
    init
        Start of every gate's logit.
    still_steps
        Stop a class when fewer than 0.2 % of its gates flip for this many steps.
    """

    steps: int = 60
    lr: float = 0.2
    l0: float = 0.3
    samples: int = 8
    init: float = 1.0
    still_steps: int = 5

    @property
    def name(self) -> str:
        """Name in configurations and records."""
        return "gates"

    def __call__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
    ) -> Discovery:
        """Circuits of all classes; ``converged`` says whose gates stood still."""
        meter = Meter()
        reasons = absent_reasons(task.samples.counts(task.n_classes))
        classes = [index for index, reason in enumerate(reasons) if not reason]
        n_units = sum(site.n_units for site in sites)
        masks = torch.zeros(task.n_classes, n_units, dtype=torch.bool)
        scores = torch.full((task.n_classes, n_units), torch.nan)
        converged: list[bool | None] = [None] * task.n_classes
        if classes:
            with evaluating(model), frozen(model):
                search = _Search(self, model, sites, task, classes, generator, meter)
                for row, index in enumerate(classes):
                    masks[index] = search.best_masks[row]
                    scores[index] = search.theta[row].detach()
                    converged[index] = bool(search.still[row])
        found = masks.any(1)
        reasons = tuple(
            reason or ("" if has else "all gates closed")
            for reason, has in zip(reasons, found.tolist(), strict=True)
        )
        return Discovery(
            tuple(sites), masks, found, scores, reasons, meter.cost(), tuple(converged)
        )


class _Search:
    """One run of the optimisation; its fields hold what came out."""

    def __init__(
        self,
        method: LearnedGates,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        classes: Sequence[int],
        generator: torch.Generator,
        meter: Meter,
    ) -> None:
        self._method, self._model, self._sites, self._task = method, model, sites, task
        self._meter = meter
        self._classes = torch.tensor(classes)
        # a stream for each class: its gates do not depend on which others are sought
        self._generators = [
            torch.Generator().manual_seed((generator.initial_seed() + c) % 2**63) for c in classes
        ]
        n_units = sum(site.n_units for site in sites)
        self.theta = torch.full((len(classes), n_units), method.init, requires_grad=True)
        with torch.no_grad():
            full = model(task.samples.inputs)
        meter.forward += len(task.samples)
        self._full = functional.log_softmax(full, dim=1)
        self.best_masks = torch.ones(len(classes), n_units, dtype=torch.bool)
        self._best_loss = torch.full((len(classes),), torch.inf)
        self.still = torch.zeros(len(classes), dtype=torch.bool)
        self._trial = self._draw()
        self._run()

    def _run(self) -> None:
        optimizer = torch.optim.Adam([self.theta], lr=self._method.lr, betas=(0.9, 0.99))
        quiet = torch.zeros(len(self._classes), dtype=torch.int64)
        before = _closed_form(self.theta.detach()) > 0.5
        for step in range(self._method.steps):
            index, rows = self._draw()
            noise = torch.cat(
                [torch.rand(2 * self._method.samples, self.theta.shape[1], generator=g)
                 for g in self._generators]
            ).clamp_(1e-6, 1 - 1e-6)  # fmt: skip
            gates = _sample(self.theta[rows], noise)
            loss = self._loss(index, rows, gates).sum() + self._method.l0 * self._open().sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            active = ~self.still
            if self.theta.grad is not None:
                self.theta.grad[self.still] = 0.0
            held = self.theta.detach().clone()
            optimizer.step()
            with torch.no_grad():
                self.theta[self.still] = held[self.still]
            now = _closed_form(self.theta.detach()) > 0.5
            calm = (now != before).float().mean(1) < 0.002
            quiet = torch.where(calm, quiet + 1, 0)
            before = now
            if step % 5 == 4 or step + 1 == self._method.steps:
                self._keep_best(now, active)
            self.still |= quiet >= self._method.still_steps
            if bool(self.still.all()):
                break
        self._keep_best(before, torch.ones_like(self.still))

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Positions ``[classes * 2 * samples]`` and the row of each: half own, half others."""
        labels = self._task.samples.labels
        picks = []
        for target, generator in zip(self._classes.tolist(), self._generators, strict=True):
            for mine in (labels == target, labels != target):
                pool = mine.nonzero().flatten()
                draw = torch.randint(len(pool), (self._method.samples,), generator=generator)
                picks.append(pool[draw])
        rows = torch.arange(len(self._classes)).repeat_interleave(2 * self._method.samples)
        return torch.cat(picks), rows

    def _loss(self, index: Tensor, rows: Tensor, gates: Tensor) -> Tensor:
        """Mean divergence of each class's binary prediction, ``[classes]``."""
        parts = split_by_site(gates, self._sites)
        reference: Mapping[str, Tensor] | None = self._task.reference
        with gated(self._model, self._sites, parts, reference):
            logits = self._model(self._task.samples.inputs[index])
        self._meter.forward += len(index)
        if gates.requires_grad:
            self._meter.backward += len(index)
        target = self._classes[rows]
        circuit = functional.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
        full = self._full[index].gather(1, target.unsqueeze(1)).squeeze(1)
        divergence = _bernoulli_kl(full, circuit)
        return torch.zeros(len(self._classes)).index_add(0, rows, divergence) / (
            2 * self._method.samples
        )

    def _open(self) -> Tensor:
        """Expected share of open gates of each class."""
        return torch.sigmoid(self.theta - _BETA * log(-_LOW / _HIGH)).mean(1)

    @torch.no_grad()
    def _keep_best(self, masks: Tensor, active: Tensor) -> None:
        index, rows = self._trial
        loss = self._loss(index, rows, masks[rows].float())
        loss = loss + self._method.l0 * masks.float().mean(1)
        better = active & (loss < self._best_loss)
        self._best_loss = torch.where(better, loss, self._best_loss)
        self.best_masks[better] = masks[better]


def _sample(theta: Tensor, noise: Tensor) -> Tensor:
    soft = torch.sigmoid((noise.log() - (1 - noise).log() + theta) / _BETA)
    return (soft * (_HIGH - _LOW) + _LOW).clamp(0.0, 1.0)


def _closed_form(theta: Tensor) -> Tensor:
    """The gates without noise."""
    return (torch.sigmoid(theta) * (_HIGH - _LOW) + _LOW).clamp(0.0, 1.0)


def _bernoulli_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(Bern(p) || Bern(q)) from log-probabilities, finite by clipping at 1e-6."""
    p = log_p.exp().clamp(1e-6, 1 - 1e-6)
    q = log_q.exp().clamp(1e-6, 1 - 1e-6)
    return p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())
