"""Flower's round numbers and those of a run: every start of a strategy counts from 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning import Weights
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies.preflight.checks import PreflightError


class RoundNumbers:
    """Counts the rounds of a run over several starts of one strategy.

    Parameters
    ----------
    offset
        The last recorded round of a resumed run, else 0.
    store
        Where rounds are recorded, if they are.
    """

    def __init__(self, offset: int, store: RunStore | None = None) -> None:
        self._store = store
        self._recorded = 0 if store is None else len(store.rounds())
        self._begun = False
        self._done = offset  # the last round that came to its end
        self._offset = offset
        self._latest = 0  # Flower's number
        self._started_again = False
        self._end: Weights = {}  # with which that round ended; before any, the first weights

    def next(self, server_round: int) -> int:
        """The number in the run of a round that begins."""
        self._started_again = server_round <= self._latest
        if self._started_again:
            self._offset = self._done - server_round + 1
        self._latest = server_round
        return server_round + self._offset

    def check_start(self, weights: Weights) -> None:
        """A strategy that is started again goes on with its run, or a folder would hold two.

        Raises
        ------
        PreflightError
            If it is started again from other weights, and what it does is recorded in a folder; or
            if another strategy has recorded there since this one was made.
        """
        self._check_alone()
        if self._started_again and self._store is not None and not _same(weights, self._end):
            raise PreflightError(
                f"the strategy was started again, from other weights than those with which round "
                f"{self._done} in {self._store.path} ended, and a folder holds one run: start from "
                "the weights that it returned to go on, or observe a new strategy with a folder of "
                "its own"
            )
        if not self._end:
            self._end = weights

    def _check_alone(self) -> None:
        begun, self._begun = self._begun, True
        if begun or self._store is None:
            return
        now = self._store.recorded_now()
        if now != self._recorded:
            raise PreflightError(
                f"{self._store.path} holds {now} rounds, and held {self._recorded} when this "
                "strategy was made: another strategy has recorded there since, and nothing of "
                "this one could be kept. Go on with observe(..., resume=True), or give it a "
                "folder of its own"
            )

    def ended(self, number: int, weights: Weights) -> None:
        """Note that a round of the run came to its end, and with which weights."""
        self._done, self._end = number, weights


def _same(weights: Weights, others: Weights) -> bool:
    """Whether the weights are those, also after a model had them that counts in whole numbers."""
    return list(weights) == list(others) and all(
        values.shape == others[name].shape and _equal(values, others[name])
        for name, values in weights.items()
    )


def _equal(values: NDArray[np.generic], others: NDArray[np.generic]) -> bool:
    if values.dtype.kind == "f" and others.dtype.kind == "f":
        return np.array_equal(values, others.astype(values.dtype), equal_nan=True)
    return bool(np.all(np.abs(values.astype(np.float64) - others.astype(np.float64)) < 1))
