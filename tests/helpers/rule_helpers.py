"""Small rounds for rules: clients with given weights and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedcircuit.aggregation import Said, Update, Updates
from fedcircuit.learning import Weights


def round_of_clients(
    before: Weights,
    weights: Sequence[Weights],
    said: Sequence[Mapping[str, Said]] | None = None,
    num_examples: Sequence[int] | None = None,
) -> Updates:
    """Round 1 of clients named a, b, c and on, in this order."""
    words = [{} for _ in weights] if said is None else said
    counts = [10] * len(weights) if num_examples is None else num_examples
    return Updates(
        1,
        before,
        tuple(
            Update("abcdefghijklmnopqrstuvwxyz"[k], n, own, heard)
            for k, (own, heard, n) in enumerate(zip(weights, words, counts, strict=True))
        ),
    )


def fedavg(updates: Updates) -> dict[str, np.ndarray]:
    """The plain average by sample counts, in float64 and back."""
    return {
        name: sum(
            share * np.asarray(update.weights[name], np.float64)
            for share, update in zip(updates.shares, updates.clients, strict=True)
        ).astype(values.dtype)
        for name, values in updates.before.items()
    }
