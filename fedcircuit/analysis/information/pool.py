"""On which samples, and in which rounds, the information plane is looked at."""

from __future__ import annotations

import numpy as np
import torch

from fedcircuit.learning import generator, largest_remainder
from fedcircuit.samples import Samples


def stratified_pool(samples: Samples, size: int, *, seed: int) -> Samples:
    """A random part of the samples with the classes in the same shares, in the order they have.

    Parameters
    ----------
    samples
        None of which a client trains on.
    size
        Samples of the pool; all of them where there are fewer.
    seed
        The pool is the same for the same seed and samples.

    Raises
    ------
    ValueError
        If ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"the pool must have at least one sample, got size {size}")
    if size >= len(samples):
        return samples
    counts = torch.bincount(samples.labels).numpy().astype(np.int64)
    rng = generator(seed, "information pool")
    chosen = torch.zeros(len(samples), dtype=torch.bool)
    for index, part in enumerate(largest_remainder(counts, size)):
        members = (samples.labels == index).nonzero().flatten()
        chosen[members[torch.randperm(len(members), generator=rng)[: int(part)]]] = True
    return samples.take(chosen)


def logarithmic_rounds(last: int, *, per_decade: int = 10) -> tuple[int, ...]:
    """Rounds from 1 to the last whose logarithms are evenly spaced, in ascending order.

    Averaging after every step makes thousands of rounds, of which the early ones change most.
    Which rounds they are does not depend on the last one, but for that one itself.

    Parameters
    ----------
    last
        Always among them.
    per_decade
        Rounds from 10 to 99, and about as many from 100 to 999; fewer below 10, where there are
        only nine.

    Raises
    ------
    ValueError
        If a number is below 1.
    """
    if last < 1 or per_decade < 1:
        raise ValueError(f"last and per_decade must be >= 1, got {last} and {per_decade}")
    rounds = {last}
    step, number = 0, 1
    while number <= last:
        rounds.add(number)
        step += 1
        number = round(10 ** (step / per_decade))
    return tuple(sorted(rounds))
