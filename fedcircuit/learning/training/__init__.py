"""How a client trains its model, and how well a model predicts."""

from typing import TYPE_CHECKING

from fedcircuit.learning.training.decorrelation import Penultimate, decorrelation, penultimate
from fedcircuit.learning.training.drift import Drift, next_gradient
from fedcircuit.learning.training.evaluation import Evaluation, evaluate
from fedcircuit.learning.training.local_training import train_local
from fedcircuit.learning.training.objectives import FedLC, FedRS, LogitAdjustment, Objective
from fedcircuit.learning.training.optimizer_state import State, last_gradient
from fedcircuit.learning.training.settings import Continuation, LocalTraining, TrainingResult
from fedcircuit.learning.watching import FeatureVariance

__all__ = [
    "Continuation",
    "Drift",
    "Evaluation",
    "FedLC",
    "FeatureVariance",
    "FedRS",
    "LocalTraining",
    "LogitAdjustment",
    "Objective",
    "Penultimate",
    "State",
    "TrainingResult",
    "decorrelation",
    "evaluate",
    "last_gradient",
    "next_gradient",
    "penultimate",
    "train_local",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
