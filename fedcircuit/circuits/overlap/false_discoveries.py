"""How many of many overlaps are more than chance: p-values with the false discovery rate held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcircuit.circuits.overlap.chance import Floats


@dataclass(frozen=True)
class FalseDiscovery:
    """p-values of many tests, adjusted for their number.

    Parameters
    ----------
    p_values
        Adjusted p-values in the shape that was given, NaN where a test was not defined.
    n_tests, n_undefined
        Tests that are defined, and tests that are not: these were left out, not counted as 1.
    """

    p_values: Floats
    n_tests: int
    n_undefined: int

    def below(self, rate: float = 0.05) -> NDArray[np.bool_]:
        """Tests called more than chance, with at most this share of false ones on average."""
        return self.p_values <= rate  # NaN is not


def false_discovery(p_values: Floats, *, method: Literal["bh", "by"] = "bh") -> FalseDiscovery:
    """Benjamini-Hochberg adjusted p-values of all tests in an array; NaN stays NaN.

    ``p'_(i) = min over j >= i of p_(j) m / j`` over the m tests that are defined (Benjamini and
    Hochberg 1995, J. R. Stat. Soc. B 57, 289-300).

    Parameters
    ----------
    p_values
        Any shape, such as ``[clients, classes, rounds]``: all tests count together.
    method
        ``"bh"`` for tests that are independent or positively dependent, ``"by"`` for any
        dependence (Benjamini and Yekutieli 2001).

    Raises
    ------
    ValueError
        If a p-value lies outside [0, 1].
    """
    given = np.asarray(p_values, dtype=np.float64)
    defined = ~np.isnan(given)
    tests = given[defined]
    if np.any((tests < 0) | (tests > 1)):
        raise ValueError(
            f"p-values must lie in [0, 1] or be NaN, got {tests.min():g} to {tests.max():g}"
        )
    adjusted = np.full(given.shape, np.nan)
    if tests.size:
        from scipy.stats import false_discovery_control  # takes half a second

        adjusted[defined] = false_discovery_control(tests, method=method)
    return FalseDiscovery(adjusted, int(tests.size), int(given.size - tests.size))
