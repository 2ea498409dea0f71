"""Flower's round numbers and those of a run: every start of a strategy counts from 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning import Weights
from fedcircuit.strategies.preflight.checks import PreflightError


class RoundNumbers:
    """Counts the rounds of a run over several starts of one strategy.

    Parameters
    ----------
    offset
        The last recorded round of a resumed run, else 0.
    """

    def __init__(self, offset: int) -> None:
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

    def check_start(self, weights: Weights, folder: Path | None) -> None:
        """A strategy that is started again goes on with its run, or a folder would hold two.

        Raises
        ------
        PreflightError
            If it is started again from other weights, and what it does is recorded in a folder.
        """
        if self._started_again and folder is not None and not _same(weights, self._end):
            raise PreflightError(
                f"the strategy was started again, from other weights than those with which round "
                f"{self._done} in {folder} ended, and a folder holds one run: start from the "
                "weights that it returned to go on, or observe a new strategy with a folder of its "
                "own"
            )
        if not self._end:
            self._end = weights

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
