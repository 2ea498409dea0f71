"""What is measured beside a client's training, for rules that ask for it."""

from fedcircuit.learning.watching.class_moments import ClassMoments, class_moments
from fedcircuit.learning.watching.feature_variance import FeatureMoments, FeatureVariance
from fedcircuit.learning.watching.feature_watch import FeatureWatch, variances_of
from fedcircuit.learning.watching.fisher import diagonal_fisher
from fedcircuit.learning.watching.path_importance import PathImportance

__all__ = [
    "ClassMoments",
    "FeatureMoments",
    "FeatureVariance",
    "FeatureWatch",
    "PathImportance",
    "class_moments",
    "diagonal_fisher",
    "variances_of",
]
