"""SCAFFOLD: the server's control variate, the direction in which clients move on average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedcircuit import messages
from fedcircuit.aggregation import (
    RuleError,
    Said,
    Setting,
    State,
    Updates,
    in_float64,
    packed_tensors,
    result,
    said_tensors,
    trained,
)
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class Scaffold:
    """Server side of SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378).

    ``w = w_t + lr (average - w_t)`` and ``c = c + 1 / N sum_k dc_k`` over the N clients of the
    federation, where ``dc_k`` is how the control variate of a client of the round changed. Clients
    train with gradients ``g - c_k + c``: c goes to them with the next round, and is the state.

    Parameters
    ----------
    lr
        The server's step, > 0; 1 leaves the average as it is.
    n_clients
        Clients of the federation, N; None: those of the round, which is right where all take part.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    name: ClassVar[str] = "scaffold"

    lr: float = 1.0
    n_clients: int | None = None

    def __post_init__(self) -> None:
        if not self.lr > 0.0:
            raise ValueError(f"lr must be > 0, got {self.lr}")
        if self.n_clients is not None and self.n_clients < 1:
            raise ValueError(f"n_clients must be >= 1, got {self.n_clients}")

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average, one server step on, and the control variate."""
        names = trained(updates.clients[0].weights, setting)
        like = {name: updates.before[name] for name in names}
        n = self.n_clients or len(updates.clients)
        if len(updates.clients) > n:
            raise RuleError(
                self.name, f"n_clients is {n}, but {len(updates.clients)} took part in the round"
            )
        control = {
            name: np.array(state.get(name, np.zeros(like[name].shape)), np.float64)
            for name in names
        }
        what = "the change of the control variate"
        for update in updates.clients:
            change = said_tensors(self.name, update, messages.SCAFFOLD_DELTA, what, like)
            for name in names:
                control[name] += change[name] / n
        if self.lr == 1.0:
            return average, control
        changed = {
            name: (1.0 - self.lr) * in_float64(like, name) + self.lr * in_float64(average, name)
            for name in names
        }
        return result(average, changed), control

    def told(self, state: State, names: Iterable[str]) -> Mapping[str, Said]:
        """What clients must know in the next round: the control variate, once there is one.

        Parameters
        ----------
        names
            Of the exchanged tensors, in their order.
        """
        control = {name: state[name] for name in names if name in state}
        return {messages.SCAFFOLD_CONTROL: packed_tensors(control)} if control else {}
