"""Which samples make the mini-batches of a client's training, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from math import ceil

import torch
from torch import Tensor

from fedcircuit.learning.seeds import derived_seed


def batches_of_epochs(n: int, size: int, epochs: int, *, seed: int) -> Iterator[Tensor]:
    """Positions of every mini-batch of whole epochs; each epoch takes all samples once.

    Parameters
    ----------
    n, size
        Samples, and samples of a mini-batch; the last of an epoch holds what is left.
    epochs
        Passes over the samples.
    seed
        Of the order; epoch e is ordered by ``seed + e``.

    Yields
    ------
    Tensor
        int64 positions ``[at most size]``.
    """
    for epoch in range(epochs):
        yield from _split(n, size, (seed + epoch) % 2**63)


def batches_from(n: int, size: int, steps: int, *, seed: int, first: int = 0) -> Iterator[Tensor]:
    """Positions of ``steps`` mini-batches of one endless sequence, from number ``first`` on.

    The sequence is pass after pass over the samples. A pass takes every sample once, in an order
    drawn from (seed, pass), and its last mini-batch holds what is left. So rounds of any number of
    steps that go on where the last one ended train on the same mini-batches in the same order.

    Parameters
    ----------
    n, size
        Samples, and samples of a mini-batch.
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
    passed, within = divmod(first, ceil(n / size))
    endless = (
        batch
        for number in count(passed)
        for batch in _split(n, size, derived_seed(seed, "pass", number))
    )
    return islice(endless, within, within + steps)


def _split(n: int, size: int, seed: int) -> tuple[Tensor, ...]:
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return torch.split(order, size)
