"""Gaussian variables whose mutual information is known, for the tests of estimators."""

from __future__ import annotations

import math

import numpy as np

from fedcircuit.analysis.estimators.estimate import Float64Array
from fedcircuit.analysis.estimators.settings import InformationSettings

NATS = InformationSettings(unit="nats", permutations=0)


def pair(n: int, d: int, rho: float, seed: int = 0) -> tuple[Float64Array, Float64Array]:
    """x and y ``[n, d]``, standard normal; only coordinates of equal number are correlated."""
    rng = np.random.default_rng([seed, d])
    x = rng.standard_normal((n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((n, d))


def truth(d: int, rho: float) -> float:
    """I(x; y) in nats."""
    return -d / 2 * math.log(1 - rho**2)
