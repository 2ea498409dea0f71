"""Weights for the tests of layer inertia."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcircuit.analysis.inertia.layer_inertia import LayerInertia, RoundInertia
from fedcircuit.learning.weights import Weights

SHAPES = {"in": (2, 3), "mid": (3, 2), "mid.bias": (3,), "out": (1, 3)}


def weights(**values: object) -> Weights:
    """Tensors of float32 by name."""
    return {name: np.array(value, dtype=np.float32) for name, value in values.items()}


def only(result: RoundInertia) -> LayerInertia:
    """The one layer of a round."""
    (row,) = result.layers
    return row


def finite_weights(most: float = 8.0) -> st.SearchStrategy[Weights]:
    """Tensors of ``SHAPES``; zeros among them, and nothing so small that squares vanish."""
    numbers = st.floats(-most, most, width=32).map(lambda x: x if abs(x) > 1e-6 else 0.0)
    return st.fixed_dictionaries(
        {name: arrays(np.float32, shape, elements=numbers) for name, shape in SHAPES.items()}
    )
