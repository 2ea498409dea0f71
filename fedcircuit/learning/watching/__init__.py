"""What is measured while a client trains, for rules that ask for it."""

from fedcircuit.learning.watching.feature_variance import FeatureVariance
from fedcircuit.learning.watching.feature_watch import FeatureWatch
from fedcircuit.learning.watching.path_importance import PathImportance

__all__ = ["FeatureVariance", "FeatureWatch", "PathImportance"]
