"""How a client trains, what a round of it goes on from, and what it gives beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from torch import nn

from fedcircuit.learning import Weights
from fedcircuit.learning.networks import WeightSparsity
from fedcircuit.learning.training.batches import Passes
from fedcircuit.learning.training.drift import Drift
from fedcircuit.learning.training.objectives import FedRS, Objective
from fedcircuit.learning.training.optimizer_state import State
from fedcircuit.learning.watching import FeatureVariance


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
    objective
        ``loss(logits, labels, class_counts)`` in place of cross-entropy, such as ``FedLC()`` or
        ``LogitAdjustment()``; ``fedrs`` is the same as ``objective=FedRS(...)``.
    feddecorr_beta
        FedDecorr adds this times :func:`~.decorrelation.decorrelation` of what the last linear
        layer takes; the paper's is 0.1.
    batch_norm
        ``shared``: batch norm is averaged like everything else. ``own``: FedBN (arXiv 2102.07623),
        every client goes on with its own parameters and statistics of batch norm.
    feature_variance
        Measure per class how much the inputs of the last linear layer vary; None: do not.
    path_importance
        Sum |<gradient, step>| of every layer's weight, over all rounds.
    fisher
        Measure the diagonal Fisher information of the trained model on the client's samples.
    class_moments
        Clients say moments, by class, of what the head reads of the weights that they receive.
    feddyn_alpha
        FedDyn: ``alpha / 2`` times the squared distance to the weights received, minus the product
        with the client's kept gradient, is added to the loss; 0: it is not. The rule ``feddyn``
        needs the same alpha.
    scaffold
        Steps are corrected by SCAFFOLD's control variates, of the client and of the server.

    Raises
    ------
    ValueError
        If a number is out of its range, both epochs and steps are given, or two objectives are; if
        options cannot be combined: ``scaffold`` with Adam or FedDyn, FedDyn with a second term
        towards the weights received or with batch norm that is not averaged.
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
    objective: Objective | None = None
    feddecorr_beta: float = 0.0
    batch_norm: Literal["shared", "own"] = "shared"
    feature_variance: FeatureVariance | None = None
    path_importance: bool = False
    fisher: bool = False
    class_moments: bool = False
    feddyn_alpha: float = 0.0
    scaffold: bool = False

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
        for name in ("momentum", "weight_decay", "proximal_mu", "feddecorr_beta", "feddyn_alpha"):
            value = getattr(self, name)
            if not value >= 0 or value == inf:
                finite = "a finite number " if value == inf else ""
                raise ValueError(f"{name} must be {finite}>= 0, got {value}")
        if self.objective is not None and self.fedrs is not None:
            raise ValueError(
                f"a client has one objective, got objective {self.objective} and fedrs "
                f"{self.fedrs}; leave one of them out"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        self._check_drift()

    def _check_drift(self) -> None:
        if self.scaffold and self.optimizer == "adam":
            raise ValueError(
                "scaffold corrects the gradients of sgd; Adam would rescale the correction entry "
                "by entry: use optimizer 'sgd', or leave scaffold out"
            )
        if self.scaffold and self.feddyn_alpha:
            raise ValueError(
                f"scaffold and feddyn_alpha {self.feddyn_alpha} both correct the same drift; leave "
                "one of them out"
            )
        if self.feddyn_alpha and self.proximal_mu:
            raise ValueError(
                f"feddyn_alpha {self.feddyn_alpha} and proximal_mu {self.proximal_mu} are both "
                "terms towards the weights received, and FedDyn's server knows of its own alone; "
                "leave one of them out"
            )
        if self.feddyn_alpha and self.batch_norm == "own":
            raise ValueError(
                "feddyn_alpha needs every parameter averaged, batch_norm 'own' keeps some with the "
                "client; use batch_norm 'shared', or leave feddyn_alpha out"
            )

    def n_steps(self, passes: Passes) -> int:
        """Mini-batches of a round of a client whose samples are cut like this."""
        return (self.epochs or 1) * passes.steps if self.steps is None else self.steps


_CHOICES = {
    "optimizer": ("sgd", "adam"),
    "optimizer_state": ("fresh", "kept"),
    "batch_norm": ("shared", "own"),
}


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
    drift
        What SCAFFOLD or FedDyn correct the round by.
    """

    first: int = 0
    batch_seed: int | None = None
    optimizer: State = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)
    frozen: nn.Module | None = None
    drift: Drift = field(default_factory=Drift)


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
    fisher
        Diagonal Fisher information of the trained model, by parameter; empty unless it is asked
        for.
    mean_gradient
        Mean of the gradients of all steps, by parameter; empty unless SCAFFOLD asks for it.
    """

    loss: float
    accuracy: float
    steps: int
    num_examples: int
    density: dict[str, float]
    optimizer: State = field(default_factory=dict)
    class_variances: tuple[float, ...] | None = None
    importance: Mapping[str, float] = field(default_factory=dict)
    fisher: Weights = field(default_factory=dict)
    mean_gradient: Weights = field(default_factory=dict)
