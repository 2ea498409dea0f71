"""How a client trains its model on its own samples, and how a model is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.learning import get_weights
from fedcircuit.learning.networks import Pruning, WeightSparsity, density, layer_weights
from fedcircuit.learning.training.batch_statistics import takes_batch_statistics, training_logits
from fedcircuit.learning.training.batches import Passes, batches_from, batches_of_epochs
from fedcircuit.learning.training.feature_variance import FeatureVariance
from fedcircuit.learning.training.feature_watch import FeatureWatch
from fedcircuit.learning.training.objectives import FedRS, proximal_term
from fedcircuit.learning.training.optimizer_state import State, optimizer_arrays, restore_optimizer_
from fedcircuit.learning.training.optimizer_steps import Optimizer, adam, sgd
from fedcircuit.learning.training.path_importance import PathImportance
from fedcircuit.learning.training.progress import Progress
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class LocalTraining:
    """A client's training in one round.

    Parameters
    ----------
    epochs
        Passes over the client's samples; left out: 1, or none where ``steps`` is given.
    batch_size
        Samples of a mini-batch; the last of a pass holds what is left. In a model with batch norm,
        which needs two, a single sample that is left joins the mini-batch before it.
    steps
        Mini-batches of a round instead of whole epochs: fewer than an epoch has, or more. Rounds
        take them from one sequence of mini-batches, see :class:`Continuation`.
    optimizer_state
        ``fresh``: moments and momentum start from nothing in every round. ``kept``: they go on
        from the client's last round. With one step a round a fresh Adam moves every weight by the
        learning rate, whatever the size of its gradient.
    feature_variance
        Measure per class how much the inputs of the last linear layer vary; None: do not.
    path_importance
        Sum |<gradient, step>| of every layer's weight, over all rounds.

    Raises
    ------
    ValueError
        If a number is out of its range, or both epochs and steps are given.
    """

    epochs: int | None = None
    batch_size: int = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    sparsity: WeightSparsity | None = None
    proximal_mu: float = 0.0
    fedrs: FedRS | None = None
    steps: int | None = None
    optimizer_state: Literal["fresh", "kept"] = "fresh"
    feature_variance: FeatureVariance | None = None
    path_importance: bool = False

    def __post_init__(self) -> None:
        if self.epochs is not None and self.steps is not None:
            raise ValueError(
                "a round has either epochs or steps, got "
                f"epochs {self.epochs} and steps {self.steps}; leave one of them out"
            )
        for name in ("epochs", "steps", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        if self.lr <= 0:
            raise ValueError(f"lr must be > 0, got {self.lr}")
        for name in ("momentum", "weight_decay", "proximal_mu"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        for name, choices in (("optimizer", ("sgd", "adam")), ("optimizer_state", _STATES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")

    def n_steps(self, passes: Passes) -> int:
        """Mini-batches of a round of a client whose samples are cut like this."""
        return (self.epochs or 1) * passes.steps if self.steps is None else self.steps


_STATES = ("fresh", "kept")


@dataclass(frozen=True)
class Continuation:
    """What a round of a client goes on from.

    Parameters
    ----------
    first
        With ``LocalTraining.steps``: number of the round's first mini-batch in the client's
        sequence, from 0.
    batch_seed
        With ``LocalTraining.steps``: seed of that sequence, the same in all rounds of a client;
        None is the round's own seed. However many steps a round has, the client then trains on
        the same mini-batches in the same order: see :func:`~.batches.batches_from`.
    optimizer
        State that the last round ended with; empty: the optimiser starts fresh.
    importance
        Path importance of the rounds before, by weight.
    frozen
        The network as it was built, for features of a frozen network.
    """

    first: int = 0
    batch_seed: int | None = None
    optimizer: State = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)
    frozen: nn.Module | None = None


START = Continuation()


@dataclass(frozen=True)
class TrainingResult:
    """What a round of local training gave beside the weights.

    Parameters
    ----------
    loss, accuracy
        Means over the samples of the last epoch, or of the round where it has fewer steps.
    steps, num_examples
        Mini-batches done, and samples that the client holds.
    density
        Share of non-zero weights of every layer.
    optimizer
        The optimiser's state at the end; empty unless it is kept.
    class_variances
        Per class, NaN where unknown; None unless they are asked for.
    importance
        Path importance of all rounds so far, by weight; empty unless it is asked for.
    """

    loss: float
    accuracy: float
    steps: int
    num_examples: int
    density: dict[str, float]
    optimizer: State = field(default_factory=dict)
    class_variances: tuple[float, ...] | None = None
    importance: Mapping[str, float] = field(default_factory=dict)


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
        scale = None if training.fedrs is None else training.fedrs.scale(samples.counts(n_classes))
        watch = FeatureWatch(
            model,
            samples,
            training.feature_variance,
            n_classes=n_classes,
            last=training.n_steps(passes) - passes.steps + 1,
            frozen=start.frozen,
        )
        path = PathImportance(model, start.importance, on=training.path_importance)
        return _train(model, _Task(training, passes, scale, watch, path), batches, optimizer)


@dataclass(frozen=True)
class _Task:
    """How a round is trained: mini-batches, FedRS's factors of the logits, what is measured."""

    training: LocalTraining
    passes: Passes
    scale: Tensor | None
    watch: FeatureWatch
    path: PathImportance


def _train(
    model: nn.Module, task: _Task, batches: Iterator[Samples], optimizer: Optimizer
) -> TrainingResult:
    training, scale = task.training, task.scale
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    n_steps, epoch = training.n_steps(task.passes), task.passes.steps
    prune = Pruning(model, training.sparsity, n_steps)
    model.train()
    progress = Progress(epoch)
    with task.watch:
        for step, batch in enumerate(batches, start=1):
            logits = training_logits(model, batch, task.passes)
            task.watch.add(step, logits, batch.labels)
            scaled = logits if scale is None else logits * scale
            loss = functional.cross_entropy(scaled, batch.labels)
            total = loss
            if training.proximal_mu > 0:
                total = loss + training.proximal_mu * proximal_term(model, start)
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            task.path.take(optimizer.step)
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
