"""Loss and accuracy while a client trains, without waiting for the device at every step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import ceil

import torch
from torch import Tensor

from fedcircuit.logits import predicted


class Progress:
    """Means over the samples of the last mini-batches.

    Parameters
    ----------
    epoch
        How many mini-batches are remembered: those of an epoch.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._last: deque[tuple[Tensor, Tensor, int]] = deque(maxlen=epoch)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Note a step: mean loss, logits ``[n, classes]`` and labels ``[n]`` of its mini-batch."""
        correct = (predicted(logits.detach()) == labels).sum()
        self._last.append((loss.detach() * len(labels), correct, len(labels)))

    def require_finite(self, step: int, lr: float) -> None:
        """Refuse to go on after ``step`` steps with a loss that is not finite.

        Raises
        ------
        ValueError
            If a loss that is remembered is not finite.
        """
        if not bool(torch.isfinite(_sum(loss for loss, _, _ in self._last))):
            raise ValueError(
                f"the training loss is not finite in epoch {ceil(step / self._epoch)} "
                f"(step {step}); lower the learning rate (now {lr})"
            )

    def means(self) -> tuple[float, float]:
        """Loss and accuracy."""
        seen = sum(n for _, _, n in self._last)
        loss = _sum(loss for loss, _, _ in self._last)
        return float(loss) / seen, float(_sum(correct for _, correct, _ in self._last)) / seen


def _sum(values: Iterable[Tensor]) -> Tensor:
    total = torch.zeros(())
    for value in values:
        total += value
    return total
