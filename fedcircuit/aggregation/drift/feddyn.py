"""FedDyn: the server remembers how far clients have drifted, and steps against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedcircuit import messages
from fedcircuit.aggregation import (
    RuleError,
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
class FedDyn:
    """Server side of dynamic regularisation (Acar et al. 2021, arXiv 2111.04263).

    ``h = h - alpha / m sum_k D_k`` and ``w = average - h / alpha``, over the m clients of the
    federation, of which those of the round moved by ``D_k``. Clients must minimise
    ``L_k(w) - <g_k, w> + alpha / 2 |w - w_t|^2`` with the same alpha, and say it. Running
    statistics stay those of the average; ``h`` is the state.

    Parameters
    ----------
    alpha
        Strength of the penalty, > 0.
    n_clients
        Clients of the federation, m; None: those of the round, which is right where all take part.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    name: ClassVar[str] = "feddyn"

    alpha: float = 0.01
    n_clients: int | None = None

    def __post_init__(self) -> None:
        if not self.alpha > 0.0:
            raise ValueError(f"alpha must be > 0, got {self.alpha}")
        if self.n_clients is not None and self.n_clients < 1:
            raise ValueError(f"n_clients must be >= 1, got {self.n_clients}")

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average moved against the drift so far, and the drift."""
        for update in updates.clients:
            alpha = said_number(
                self.name, update, messages.FEDDYN_ALPHA, "clients that train with FedDyn", least=0
            )
            if not np.isclose(alpha, self.alpha):
                raise RuleError(
                    self.name, f"alpha is {alpha} there and {self.alpha} here", update.client
                )
        m = self.n_clients or len(updates.clients)
        if len(updates.clients) > m:
            raise RuleError(
                self.name, f"n_clients is {m}, but {len(updates.clients)} took part in the round"
            )
        drift, changed = {}, {}
        for name in trained(updates.clients[0].weights, setting):
            before = np.asarray(state.get(name, np.zeros(average[name].shape)), np.float64)
            total = np.zeros(average[name].shape)
            for update in updates.clients:
                total += moved(updates, update, name)
            drift[name] = before - self.alpha / m * total
            changed[name] = in_float64(average, name) - drift[name] / self.alpha
        return result(average, changed), drift
