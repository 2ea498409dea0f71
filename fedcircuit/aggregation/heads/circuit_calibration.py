"""Circuit-aware head calibration: CCVR that leaves alone what a class's circuits do not read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fedcircuit.aggregation import (
    NO_STATE,
    Floats,
    RuleError,
    Setting,
    State,
    Updates,
    circuits_of,
    feature_masks,
    result,
)
from fedcircuit.aggregation.heads.ccvr import calibrated, check_rounds, is_due
from fedcircuit.aggregation.heads.head import find_head
from fedcircuit.aggregation.heads.refit import Refit
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class CircuitCalibration:
    """Circuit-aware head calibration (ours).

    As CCVR, minimising ``CE + rho sum_{c,u} (1 - M_{c,u}) (W_{c,u} - W0_{c,u})^2``, where M is the
    union of the clients' circuits of class c and W0 the head before. ``rho = 0`` is CCVR exactly,
    and the only setting that has been run: greater values are not tried.

    Parameters
    ----------
    rho
        >= 0.
    every, last, refit
        As for :class:`~fedcircuit.aggregation.heads.CCVR`.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    name: ClassVar[str] = "circuit-calibration"

    rho: float = 0.0
    every: int = 1
    last: int | None = None
    refit: Refit = field(default_factory=Refit)

    def __post_init__(self) -> None:
        check_rounds(self.every, self.last)
        limit = 1.0 / self.refit.lr
        if not 0.0 <= self.rho < math.inf or self.rho >= limit:
            raise ValueError(
                f"rho must lie in [0, 1 / lr) = [0, {limit:g}), beyond which the fit runs away; "
                f"got {self.rho}"
            )

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with a head that is fitted anew, in the rounds that have one."""
        if not is_due(updates.round, self.every, self.last):
            return average, NO_STATE
        pull = self._pull(updates, average, setting) if self.rho else None
        mended = calibrated(self.name, self.refit, updates, average, setting, pull)
        return result(average, mended), NO_STATE

    def _pull(self, updates: Updates, average: Weights, setting: Setting) -> Floats:
        """``rho (1 - M)`` as ``[classes, D + 1]``, biases free."""
        n_classes, size = average[find_head(updates.before, setting, self.name).weight].shape
        masks, spans = circuits_of(self.name, updates, setting)
        read = feature_masks(np.asarray(masks.any(axis=0)), spans, size)
        if read is None or len(read) != n_classes:
            raise RuleError(
                self.name,
                f"needs circuits of {n_classes} classes whose last layer's units are the head's "
                f"{size} inputs",
            )
        pull: Floats = np.column_stack([self.rho * ~read, np.zeros(n_classes)])
        return pull
