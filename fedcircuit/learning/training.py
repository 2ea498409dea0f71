"""How a client trains its model on its own samples, and how a model is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.learning.objectives import FedRS, proximal_term
from fedcircuit.learning.sparsity import (
    WeightSparsity,
    apply_masks_,
    density,
    sparsify_,
    support_masks,
)
from fedcircuit.learning.weights import get_weights
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class LocalTraining:
    """A client's training in one round; the optimiser is fresh in every round.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    epochs: int = 1
    batch_size: int = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    sparsity: WeightSparsity | None = None
    proximal_mu: float = 0.0
    fedrs: FedRS | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if self.lr <= 0:
            raise ValueError(f"lr must be > 0, got {self.lr}")
        for name in ("momentum", "weight_decay", "proximal_mu"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(f"optimizer must be 'sgd' or 'adam', got {self.optimizer!r}")


@dataclass(frozen=True)
class TrainingResult:
    """Mean loss and accuracy over the last epoch, steps done, samples, density by layer."""

    loss: float
    accuracy: float
    steps: int
    num_examples: int
    density: dict[str, float]


def train_local(
    model: nn.Module, samples: Samples, training: LocalTraining, *, n_classes: int, seed: int
) -> TrainingResult:
    """Train the model in place on one client's samples.

    Parameters
    ----------
    model
        Holds the weights the round starts from.
    samples
        The client's own, not empty.
    training
        Optimiser, steps, sparsity and objective.
    n_classes
        Number of logits.
    seed
        Order of the samples and every random layer; derive it from (seed, round, client).

    Raises
    ------
    ValueError
        If there is no sample, or the loss stops being finite.
    """
    if len(samples) == 0:
        raise ValueError("a client has no training samples; give it some, or leave it out")
    with torch.random.fork_rng(devices=[]):
        # dropout and the like; torch.manual_seed would take 2 ms to look for every accelerator
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(seed)
        return _train(model, samples, training, n_classes, seed)


def _train(
    model: nn.Module, samples: Samples, training: LocalTraining, n_classes: int, seed: int
) -> TrainingResult:
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    scale = None if training.fedrs is None else training.fedrs.scale(samples.counts(n_classes))
    prune = _Pruning(model, training, _n_steps(training, len(samples)))
    optimizer = _optimizer(model, training)
    model.train()
    loss_sum, correct, step = torch.zeros(()), torch.zeros(()), 0
    for epoch in range(training.epochs):
        loss_sum.zero_()
        correct.zero_()
        for batch in _batches(samples, training.batch_size, seed, epoch):
            logits = model(batch.inputs)
            scaled = logits if scale is None else logits * scale
            loss = functional.cross_entropy(scaled, batch.labels)
            total = loss
            if training.proximal_mu > 0:
                total = loss + training.proximal_mu * proximal_term(model, start)
            optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            prune.after_step(step)
            loss_sum += loss.detach() * len(batch)
            correct += (logits.detach().argmax(1) == batch.labels).sum()
            step += 1
        if not bool(torch.isfinite(loss_sum)):
            raise ValueError(
                f"the training loss is not finite in epoch {epoch + 1} (step {step}); "
                f"lower the learning rate (now {training.lr})"
            )
    prune.at_end()
    return TrainingResult(
        loss=float(loss_sum) / len(samples),
        accuracy=float(correct) / len(samples),
        steps=step,
        num_examples=len(samples),
        density=density(get_weights(model)),
    )


def last_gradient(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The gradient that the last step of training used, by name of the parameter; copies.

    After :func:`train_local` it is that of the local objective (with FedProx's term and FedRS's
    scales, where the training has them) on the last mini-batch, at the weights before that step;
    without weight decay, momentum and clipping. It is read from ``parameter.grad``, so it holds
    until the next backward pass through the model: read it before circuits are looked for.

    Returns
    -------
    dict
        float32 arrays of the parameters' shapes; a parameter without a gradient (frozen, or a
        model that was not trained) is left out.
    """
    return {
        name: np.array(parameter.grad.detach().float().cpu().numpy())
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _n_steps(training: LocalTraining, n_samples: int) -> int:
    return training.epochs * ceil(n_samples / training.batch_size)


def _batches(samples: Samples, size: int, seed: int, epoch: int) -> Iterator[Samples]:
    generator = torch.Generator().manual_seed((seed + epoch) % 2**63)
    order = torch.randperm(len(samples), generator=generator)
    for index in torch.split(order, size):
        yield samples.take(index)


def _optimizer(model: nn.Module, training: LocalTraining) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )


class _Pruning:
    """Keeps the weights sparse: after every step, and to the full target at the end."""

    def __init__(self, model: nn.Module, training: LocalTraining, n_steps: int) -> None:
        self._model, self._sparsity, self._n_steps = model, training.sparsity, n_steps
        self._masks: dict[str, Tensor] | None = None
        if training.sparsity is not None and training.sparsity.mask == "persistent":
            self._masks = support_masks(model, training.sparsity)
            apply_masks_(model, self._masks)

    def after_step(self, step: int) -> None:
        if self._masks is not None:
            apply_masks_(self._model, self._masks)
        elif self._sparsity is not None:
            share = self._sparsity.at(step, self._n_steps)
            if share > 0:
                sparsify_(self._model, share, min_alive=self._sparsity.min_alive)

    def at_end(self) -> None:
        if self._sparsity is not None and self._masks is None:
            sparsify_(self._model, self._sparsity.target, min_alive=self._sparsity.min_alive)


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy, and per class recall, false positive rate and number of samples.

    Recall is NaN for a class without samples, the false positive rate where all samples are of
    the class; loss and accuracy are NaN without any sample.
    """

    loss: float
    accuracy: float
    recall: tuple[float, ...]
    fpr: tuple[float, ...]
    counts: tuple[int, ...]


@torch.no_grad()
def evaluate(
    model: nn.Module, samples: Samples, *, n_classes: int, batch_size: int = 500
) -> Evaluation:
    """How well the model in eval mode predicts the samples; its mode is given back."""
    mode = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.float64)
    confusion = torch.zeros(n_classes, n_classes, dtype=torch.int64)  # [label, prediction]
    try:
        for index in torch.split(torch.arange(len(samples)), batch_size):
            batch = samples.take(index)
            logits = model(batch.inputs)
            loss += functional.cross_entropy(logits, batch.labels, reduction="sum")
            pairs = batch.labels * n_classes + logits.argmax(1)
            confusion += torch.bincount(pairs, minlength=n_classes**2).reshape(confusion.shape)
    finally:
        model.train(mode)
    counts, hits = confusion.sum(1).double(), confusion.diagonal().double()
    false = confusion.sum(0).double() - hits
    total = counts.sum()
    return Evaluation(  # 0 / 0 is NaN: undefined where there is nothing to count
        loss=float(loss / total),
        accuracy=float(hits.sum() / total),
        recall=tuple((hits / counts).tolist()),
        fpr=tuple((false / (total - counts)).tolist()),
        counts=tuple(int(n) for n in counts),
    )
