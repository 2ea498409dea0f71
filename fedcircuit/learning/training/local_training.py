"""How a client trains its model on its own samples, and how a model is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.learning import get_weights
from fedcircuit.learning.networks import Pruning, density, layer_weights
from fedcircuit.learning.training.batch_statistics import takes_batch_statistics, training_logits
from fedcircuit.learning.training.batches import Passes, batches_from, batches_of_epochs
from fedcircuit.learning.training.decorrelation import Penultimate, decorrelation, penultimate
from fedcircuit.learning.training.drift import CorrectedSteps, dynamic_gradient, dynamic_term
from fedcircuit.learning.training.objectives import proximal_term
from fedcircuit.learning.training.optimizer_state import optimizer_arrays, restore_optimizer_
from fedcircuit.learning.training.optimizer_steps import Optimizer, adam, sgd
from fedcircuit.learning.training.progress import Progress
from fedcircuit.learning.training.settings import START, Continuation, LocalTraining, TrainingResult
from fedcircuit.learning.watching import FeatureWatch, PathImportance, diagonal_fisher
from fedcircuit.samples import Samples


def train_local(
    model: nn.Module,
    samples: Samples,
    training: LocalTraining,
    *,
    n_classes: int,
    seed: int,
    start: Continuation = START,
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
    start
        What the client's earlier rounds left; its optimiser's state is used only if it is kept.

    Raises
    ------
    ValueError
        If there is no sample, the loss stops being finite, what was kept is another model's, batch
        norm gets a mini-batch of one sample, or the features that are asked for cannot be had.
    """
    if len(samples) == 0:
        raise ValueError("a client has no training samples; give it some, or leave it out")
    with torch.random.fork_rng(devices=[]):
        # dropout and the like; torch.manual_seed would take 2 ms to look for every accelerator
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(seed)
        passes = Passes(len(samples), training.batch_size, takes_batch_statistics(model))
        places = _places(passes, training, seed, start)
        batches = (samples.take(index) for index in places)
        optimizer = _optimizer(model, training)
        if training.optimizer_state == "kept":
            restore_optimizer_(model, optimizer, start.optimizer)
        watch = FeatureWatch(
            model,
            samples,
            training.feature_variance,
            n_classes=n_classes,
            last=training.n_steps(passes) - passes.steps + 1,
            frozen=start.frozen,
        )
        path = PathImportance(model, start.importance, on=training.path_importance)
        steps = CorrectedSteps(model, start.drift.correction, on=training.scaffold)
        settled = dynamic_gradient(model, start.drift.gradient)
        task = _Task(training, passes, samples.counts(n_classes), watch, path, steps, settled)
        with penultimate(model) if training.feddecorr_beta > 0 else nullcontext() as seen:
            result = _train(model, task, batches, optimizer, seen)
        return replace(result, fisher=diagonal_fisher(model, samples) if training.fisher else {})


@dataclass(frozen=True)
class _Task:
    """How a round is trained: mini-batches, samples of each class, and what is measured."""

    training: LocalTraining
    passes: Passes
    counts: Tensor
    watch: FeatureWatch
    path: PathImportance
    steps: CorrectedSteps
    settled: Mapping[str, Tensor]  # FedDyn's gradient of the client

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean of the objective over a mini-batch."""
        objective = self.training.objective or self.training.fedrs
        if objective is None:
            return functional.cross_entropy(logits, labels)
        return objective(logits, labels, self.counts)

    def penalties(
        self, model: nn.Module, start: Mapping[str, Tensor], features: Tensor | None
    ) -> Iterator[Tensor]:
        """What is added to the loss: terms of FedProx, FedDyn and FedDecorr, where asked for."""
        if self.training.proximal_mu > 0:
            yield self.training.proximal_mu * proximal_term(model, start)
        if self.training.feddyn_alpha > 0:
            yield dynamic_term(model, start, self.settled, self.training.feddyn_alpha)
        if features is not None:
            yield self.training.feddecorr_beta * decorrelation(features)


def _train(
    model: nn.Module,
    task: _Task,
    batches: Iterator[Samples],
    optimizer: Optimizer,
    seen: Penultimate | None,
) -> TrainingResult:
    training = task.training
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    n_steps, epoch = training.n_steps(task.passes), task.passes.steps
    prune = Pruning(model, training.sparsity, n_steps)
    take = task.steps.around(optimizer.step)
    model.train()
    progress = Progress(epoch)
    with task.watch:
        for step, batch in enumerate(batches, start=1):
            logits = training_logits(model, batch, task.passes)
            task.watch.add(step, logits, batch.labels)
            loss = task.loss(logits, batch.labels)
            features = None if seen is None else seen.features(logits)
            total = sum(task.penalties(model, start, features), loss)
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            task.path.take(take)
            prune.after_step(step - 1)
            progress.add(loss, logits, batch.labels)
            if step % epoch == 0 or step == n_steps:
                progress.require_finite(step, training.lr)
    prune.at_end()
    weights = get_weights(model)
    mean_loss, accuracy = progress.means()
    return TrainingResult(
        loss=mean_loss,
        accuracy=accuracy,
        steps=n_steps,
        num_examples=task.passes.n,
        density=density({name: weights[name] for name in layer_weights(model)}),
        optimizer=optimizer_arrays(model, optimizer) if training.optimizer_state == "kept" else {},
        class_variances=task.watch.variances(),
        importance=task.path.sums(),
        mean_gradient=task.steps.mean_gradient(),
    )


def _places(
    passes: Passes, training: LocalTraining, seed: int, start: Continuation
) -> Iterator[Tensor]:
    if training.steps is None:
        return batches_of_epochs(passes, training.epochs or 1, seed=seed)
    sequence = seed if start.batch_seed is None else start.batch_seed
    return batches_from(passes, training.steps, seed=sequence, first=start.first)


def _optimizer(model: nn.Module, training: LocalTraining) -> Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if training.optimizer == "adam":
        return adam(parameters, lr=training.lr, weight_decay=training.weight_decay)
    return sgd(
        parameters,
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
