"""The client's part of LIPS: masking its own start, and remembering what that takes.

What is remembered lies in Flower's ``context.state``, which a node keeps from round to round of one
run: the last gradient under ``lips/grad``. Which batch norm and biases a client keeps is in
:mod:`fedcircuit.clients.own_tensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import Context
from torch import nn

from fedcircuit import messages
from fedcircuit.aggregation import lips
from fedcircuit.clients.memory import keep, recalled
from fedcircuit.learning import Weights, derived_seed

GRADIENT = "lips/grad"
LastGradient = Callable[[nn.Module], Weights]


def local_start(
    weights: Weights, config: Mapping[str, Any], context: Context, names: Mapping[str, str]
) -> tuple[Weights, bytes | None]:
    """What training starts from, and the packed bits of what the client's own mask has kept.

    Parameters
    ----------
    weights
        As received, with the client's own tensors, under the model's names.
    config
        The train config; without an entry of LIPS the weights come back as they are.
    context
        The node's, for what it remembers.
    names
        From the names in the message to the model's.

    Raises
    ------
    ValueError
        If the config names a layer that the weights do not have.
    """
    density = float(config.get(messages.LIPS_DENSITY, 1.0))
    if density >= 1.0 or messages.LIPS_SCORE not in config:
        return weights, None
    layers = _own_names(config, messages.LIPS_LAYERS, names)
    gradient = recalled(context, GRADIENT)
    if any(name not in gradient for name in layers):  # the first participation: as by magnitude
        gradient = {}
    entropy = derived_seed(
        int(config[messages.LIPS_SEED]), int(context.node_config.get(messages.PARTITION_ID, 0))
    )
    scored = lips.scores(
        {name: weights[name] for name in layers},
        config[messages.LIPS_SCORE],
        gradient=gradient or None,
        rng=np.random.default_rng(entropy),
    )
    kept = lips.kept_entries(scored, density, config[messages.LIPS_SCOPE])
    return {**weights, **lips.masked(weights, kept)}, lips.packed(kept)


def local_names(config: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """The model's names of the tensors that LIPS lets every client keep for itself."""
    return _own_names(config, messages.LIPS_LOCAL, names)


def remember(
    model: nn.Module,
    config: Mapping[str, Any],
    context: Context,
    names: Mapping[str, str],
    gradient: LastGradient,
) -> None:
    """Keep, after training, what the next masked download needs; nothing without LIPS.

    Parameters
    ----------
    model
        Just trained.
    config, context, names
        As for :func:`local_start`.
    gradient
        The gradients that the last step left in the model, by parameter name.
    """
    if config.get(messages.LIPS_SCORE) == "sensitivity":
        layers = _own_names(config, messages.LIPS_LAYERS, names)
        last = gradient(model)
        keep(context, GRADIENT, {name: last[name] for name in layers if name in last})


def _own_names(config: Mapping[str, Any], key: str, names: Mapping[str, str]) -> list[str]:
    """The model's names of the tensors that a config lists as the message calls them."""
    listed = [str(name) for name in config.get(key, [])]
    missing = [name for name in listed if name not in names]
    if missing:
        raise ValueError(f"{key} of the config has {missing}, the weights are {list(names)}")
    return [names[name] for name in listed]
