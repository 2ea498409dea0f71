"""How far tensors moved: norms in float64, and sums of the clients' changes by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning import Weights

Start = Literal["global", "received"]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ClientUpdate:
    """What one client made of the weights it was given.

    Parameters
    ----------
    num_examples
        Training samples behind the update.
    end
        Its weights after training.
    start
        The weights it really started from, where they were not the global ones: after a masked
        download, say. None is the global weights before the round.
    """

    num_examples: int | float
    end: Weights
    start: Weights | None = None


class ClientMovement:
    """Sums over clients by layer: samples, samples times movement, samples times change.

    Parameters
    ----------
    names
        The layers.

    Attributes
    ----------
    start
        ``global`` or ``received`` as in ``RoundInertia``; None before the first client.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.start: Start | None = None
        self._examples = 0.0
        self._norms = dict.fromkeys(names, 0.0)
        self._changes: dict[str, Vector] = {}

    def add(self, client: ClientUpdate, before: Weights) -> None:
        """Take a client; ``before`` are the global weights that the round started from.

        Raises
        ------
        ValueError
            If its number of samples is negative, or a layer is missing or has another shape.
        """
        if client.num_examples < 0:
            raise ValueError(f"num_examples must be >= 0, got {client.num_examples}")
        if self.start != "received":
            self.start = "global" if client.start is None else "received"
        self._examples += client.num_examples
        start = before if client.start is None else client.start
        for name in self._norms:
            change = vector(client.end, name, before) - vector(start, name, before)
            self._norms[name] += client.num_examples * norm(change)
            change *= client.num_examples
            if name in self._changes:
                self._changes[name] += change
            else:
                self._changes[name] = change

    def mean(self, name: str) -> float:
        """``m`` of a layer; NaN without samples."""
        return ratio(self._norms[name], self._examples)

    def coherence(self, name: str) -> float:
        """``kappa`` of a layer; NaN where no client moved."""
        if name not in self._changes:
            return math.nan
        share = ratio(norm(self._changes[name]), self._norms[name])
        return share if math.isnan(share) else min(1.0, share)  # the last bit may exceed it


def vector(weights: Weights, name: str, like: Weights | None = None) -> Vector:
    """A tensor's numbers as float64; its shape must be that of the same tensor in ``like``."""
    if name not in weights:
        raise ValueError(f"no tensor {name!r} among the weights {list(weights)}")
    values = weights[name]
    if like is not None and values.shape != like[name].shape:
        raise ValueError(
            f"{name!r} has shape {values.shape}, before the round it had {like[name].shape}"
        )
    return np.asarray(values, dtype=np.float64).ravel()


def norm(values: Vector) -> float:
    """The Frobenius norm."""
    # not a BLAS product: its last bits depend on the number of threads
    return math.sqrt(float(np.sum(np.square(values))))


def ratio(numerator: float, denominator: float) -> float:
    """The quotient; NaN where it is none."""
    return defined(numerator / denominator) if denominator else math.nan


def defined(value: float) -> float:
    """The value; NaN where it is not finite."""
    return value if math.isfinite(value) else math.nan
