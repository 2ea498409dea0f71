"""Rules whose effect is seen at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedcircuit.aggregation import NO_STATE, Setting, State, Updates
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class Counting:
    """Adds 1 to all biases of the head, and remembers how often it did."""

    name: ClassVar[str] = "counting"

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with other biases."""
        bias = average["3.bias"] + np.float32(1)
        times = state.get("times", np.zeros(())) + 1
        return {**average, "3.bias": bias}, {"times": times, "round": np.array(updates.round)}


@dataclass(frozen=True)
class Doubling:
    """Doubles the head's biases."""

    name: ClassVar[str] = "doubling"

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with other biases."""
        return {**average, "3.bias": average["3.bias"] * np.float32(2)}, NO_STATE
