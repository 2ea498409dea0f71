"""Path importance of a client's layers: remembered over the rounds, and sent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import Context

from fedcircuit import messages
from fedcircuit.clients import memory
from fedcircuit.learning.training import TrainingResult


def remembered(context: Context) -> dict[str, float]:
    """Sums of the node's rounds so far, by the model's names; empty in its first."""
    return {k: float(v) for k, v in memory.recalled(context, memory.PATH_IMPORTANCE).items()}


def remember(
    result: TrainingResult, context: Context, names: Mapping[str, str]
) -> dict[str, list[str] | list[float]]:
    """Keep the sums of a round, and what the client says of them; nothing where none were asked.

    Parameters
    ----------
    result
        Of the round.
    context
        The node's.
    names
        From the names in the message to the model's.
    """
    if not result.importance:
        return {}
    memory.keep(
        context,
        memory.PATH_IMPORTANCE,
        {name: np.array(value, np.float64) for name, value in result.importance.items()},
    )
    sent = {own: name for name, own in names.items()}
    layers = [name for name in result.importance if name in sent]
    return {
        messages.PATH_LAYERS: [sent[name] for name in layers],
        messages.PATH_IMPORTANCE: [result.importance[name] for name in layers],
    }
