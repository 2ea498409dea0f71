"""How a client trains its model, and how well a model predicts."""

from fedcircuit.learning.training.evaluation import Evaluation, evaluate
from fedcircuit.learning.training.feature_variance import FeatureVariance
from fedcircuit.learning.training.local_training import (
    Continuation,
    LocalTraining,
    TrainingResult,
    train_local,
)
from fedcircuit.learning.training.objectives import FedRS
from fedcircuit.learning.training.optimizer_state import State, last_gradient

__all__ = [
    "Continuation",
    "Evaluation",
    "FeatureVariance",
    "FedRS",
    "LocalTraining",
    "State",
    "TrainingResult",
    "evaluate",
    "last_gradient",
    "train_local",
]
