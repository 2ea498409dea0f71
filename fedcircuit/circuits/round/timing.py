"""What every part of an analysis has of its own: its seconds, and its random numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class Clock:
    """Wall seconds by part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts the time inside to the part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._start


def stream(seed: int, *words: int | str) -> torch.Generator:
    """A generator of its own for every stream of words, such as round, model and purpose."""
    entropy = [seed]
    for word in words:
        # the length first: no two streams can spell the same numbers
        codes = list(word.encode()) if isinstance(word, str) else [word]
        entropy += [len(codes), *codes]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
