"""Which samples make the mini-batches of a client's training, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from math import ceil

import torch
from torch import Tensor

from fedcircuit.learning import derived_seed


@dataclass(frozen=True)
class Passes:
    """How one pass over a client's samples is cut into mini-batches.

    Parameters
    ----------
    n, size
        Samples, and samples of a mini-batch; the last of a pass holds what is left.
    join_single
        Where a single sample is left, it joins the mini-batch before it, which then holds
        ``size + 1``: batch norm cannot take the variance of one.
    """

    n: int
    size: int
    join_single: bool = False

    @property
    def _joined(self) -> bool:
        return self.join_single and self.n > self.size > 1 and self.n % self.size == 1

    @property
    def steps(self) -> int:
        """Mini-batches of a pass."""
        return ceil(self.n / self.size) - self._joined

    def cut(self, seed: int) -> tuple[Tensor, ...]:
        """int64 positions of each mini-batch of one pass, in an order drawn from the seed."""
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        batches = torch.split(order, self.size)
        if self._joined:
            return (*batches[:-2], torch.cat(batches[-2:]))
        return batches


def batches_of_epochs(passes: Passes, epochs: int, *, seed: int) -> Iterator[Tensor]:
    """Positions of every mini-batch of whole epochs; each epoch takes all samples once.

    Parameters
    ----------
    passes
        Samples, and how they are cut.
    epochs
        Passes over the samples.
    seed
        Of the order; epoch e is ordered by ``seed + e``.

    Yields
    ------
    Tensor
        int64 positions, at most ``size`` of them, or ``size + 1`` where a single one joined.
    """
    for epoch in range(epochs):
        yield from passes.cut((seed + epoch) % 2**63)


def batches_from(passes: Passes, steps: int, *, seed: int, first: int = 0) -> Iterator[Tensor]:
    """Positions of ``steps`` mini-batches of one endless sequence, from number ``first`` on.

    The sequence is pass after pass over the samples. A pass takes every sample once, in an order
    drawn from (seed, pass), and its last mini-batch holds what is left. So rounds of any number of
    steps that go on where the last one ended train on the same mini-batches in the same order.

    Parameters
    ----------
    passes
        Samples, and how they are cut.
    steps, first
        How many mini-batches, and the number of the first, from 0.
    seed
        Of the sequence.

    Raises
    ------
    ValueError
        If ``first`` is negative.
    """
    if first < 0:
        raise ValueError(f"the first mini-batch must have a number >= 0, got {first}")
    passed, within = divmod(first, passes.steps)
    endless = (
        batch
        for number in count(passed)
        for batch in passes.cut(derived_seed(seed, "pass", number))
    )
    return islice(endless, within, within + steps)
