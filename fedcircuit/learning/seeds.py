"""Seeds of independent streams, derived from the one seed of a study."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def derived_seed(seed: int, *stream: int | str) -> int:
    """Seed of the stream named by ``stream`` (such as round and client), in ``[0, 2**63)``.

    Raises
    ------
    ValueError
        If the seed or a number of the stream is negative; 0 is a seed like any other.
    """
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in stream]
    if seed < 0 or any(word < 0 for word in words):
        raise ValueError(f"seeds must be >= 0, got seed {seed} and stream {stream}")
    state = np.random.SeedSequence([seed, *words]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, *stream: int | str) -> torch.Generator:
    """A torch generator of its own for the stream."""
    return torch.Generator().manual_seed(derived_seed(seed, *stream))
