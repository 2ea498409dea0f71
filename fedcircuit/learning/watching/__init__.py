"""What is measured while a client trains, for rules that ask for it."""

from fedcircuit.learning.watching.feature_variance import FeatureMoments, FeatureVariance
from fedcircuit.learning.watching.feature_watch import FeatureWatch, variances_of
from fedcircuit.learning.watching.path_importance import PathImportance

__all__ = ["FeatureMoments", "FeatureVariance", "FeatureWatch", "PathImportance", "variances_of"]
