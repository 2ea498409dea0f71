"""Drawing the same clients whenever seed and round are the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seeded_sampling(seed: int, round_number: int, purpose: str) -> Iterator[None]:
    """Python's global random state, from which Flower samples, set for a while and given back."""
    state = random.getstate()
    random.seed(f"{seed}:{round_number}:{purpose}")
    try:
        yield
    finally:
        random.setstate(state)
