"""Sparse networks and how a client trains them; here what all of it uses: weights and seeds."""

from fedcircuit.learning.apportion import largest_remainder
from fedcircuit.learning.seeds import derived_seed, generator
from fedcircuit.learning.weights import Weights, get_weights, set_weights

__all__ = [
    "Weights",
    "derived_seed",
    "generator",
    "get_weights",
    "largest_remainder",
    "set_weights",
]
