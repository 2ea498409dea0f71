"""Numbers of every round for trackers of experiments."""

from fedcircuit.observers.trackers.mlflow_tracker import MlflowTracker
from fedcircuit.observers.trackers.tensorboard_tracker import TensorBoardTracker
from fedcircuit.observers.trackers.tracking import Tracker, round_numbers
from fedcircuit.observers.trackers.wandb_tracker import WandbTracker

__all__ = [
    "MlflowTracker",
    "TensorBoardTracker",
    "Tracker",
    "WandbTracker",
    "round_numbers",
]
