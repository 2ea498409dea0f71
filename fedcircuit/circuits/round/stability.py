"""How far the search for circuits agrees with itself: other seeds, other halves of the probe.

An overlap between two models cannot be expected to exceed what either model reaches with itself.
"""

from __future__ import annotations

import numpy as np

from fedcircuit.circuits.overlap import Floats
from fedcircuit.circuits.probes import Probe


def corrected_overlap(adjusted: Floats, ceiling_a: Floats, ceiling_b: Floats) -> Floats:
    """Overlap of two models relative to how far each agrees with itself.

    ``J_adj(A, B) / sqrt(J_adj(A, A') J_adj(B, B'))``, the correction for attenuation (Spearman
    1904, Am. J. Psychol. 15, 72-101). Not clipped: it may exceed 1. NaN where a ceiling is zero,
    negative or NaN: a search that does not agree with itself says nothing about two models.

    Parameters
    ----------
    adjusted, ceiling_a, ceiling_b
        Chance-adjusted IoU of A with B, of A with itself and of B with itself under another seed
        and probe half; of shapes that broadcast.
    """
    given, first, second = np.broadcast_arrays(
        *(np.asarray(values, dtype=np.float64) for values in (adjusted, ceiling_a, ceiling_b))
    )
    usable = (first > 0) & (second > 0)
    # root by root: the product of two tiny ceilings would be zero
    scale = np.sqrt(np.where(usable, first, 1.0)) * np.sqrt(np.where(usable, second, 1.0))
    return np.where(usable, given / scale, np.nan)


def swapped_halves(probe: Probe) -> Probe:
    """The probe with its halves exchanged."""
    return Probe(probe.checking, probe.discovery, probe.class_names)
