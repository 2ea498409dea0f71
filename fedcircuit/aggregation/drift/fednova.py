"""FedNova: no client counts for more because it took more steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedcircuit import messages
from fedcircuit.aggregation import (
    NO_STATE,
    Floats,
    Setting,
    State,
    Updates,
    in_float64,
    moved,
    result,
    said_number,
    trained,
)
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class FedNova:
    """Normalised averaging (Wang et al. 2020, arXiv 2007.07481).

    ``w = w_t + (sum_k p_k a_k) sum_k p_k D_k / a_k`` with the client's movement ``D_k``, its share
    ``p_k`` of the samples and the weight ``a_k`` of its ``tau_k`` local steps: ``tau_k`` for plain
    SGD, ``(tau - m (1 - m^tau) / (1 - m)) / (1 - m)`` with momentum m. Running statistics stay
    those of the average. Where all took as many steps it is the average, bit for bit.

    Parameters
    ----------
    momentum
        Of the clients' SGD, in [0, 1).

    Raises
    ------
    ValueError
        If the momentum is out of range.
    """

    name: ClassVar[str] = "fednova"

    momentum: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The normalised average; every client must say its local steps."""
        steps = np.array(
            [
                said_number(self.name, u, messages.LOCAL_STEPS, "the local steps", least=1)
                for u in updates.clients
            ]
        )
        if (steps == steps[0]).all():
            return average, NO_STATE
        lengths = self._lengths(steps)
        factors = updates.shares * (updates.shares @ lengths) / lengths
        changed = {
            name: in_float64(updates.before, name)
            + sum(
                f * moved(updates, u, name) for f, u in zip(factors, updates.clients, strict=True)
            )
            for name in trained(updates.clients[0].weights, setting)
        }
        return result(average, changed), NO_STATE

    def _lengths(self, steps: Floats) -> Floats:
        m = self.momentum
        lengths: Floats = (steps - m * (1.0 - m**steps) / (1.0 - m)) / (1.0 - m)
        return lengths
