"""Checks before the first round: what would fail in every round is refused before any work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedcircuit.learning import Weights
from fedcircuit.learning.networks import NameFitError
from fedcircuit.strategies.replies import first_non_finite, short

_WRAPPERS = {
    "DataParallel": "give the network inside it: model.module",
    "DistributedDataParallel": "give the network inside it: model.module",
    "FullyShardedDataParallel": "give the network before it is sharded",
    "OptimizedModule": "give the network before torch.compile; clients may compile theirs",
    "ScriptModule": "give the network before torch.jit",
    "RecursiveScriptModule": "give the network before torch.jit",
}


class PreflightError(ValueError):
    """Something that would have failed in every round; nothing was sent yet."""


def check_model(model: object) -> None:
    """Make sure that circuits can be looked for in a network.

    Raises
    ------
    PreflightError
        If it is no module, is wrapped, has no weights yet, or numbers that are not finite.
    """
    if not isinstance(model, nn.Module):
        raise PreflightError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    for kind in type(model).__mro__:
        if kind.__name__ in _WRAPPERS:
            raise PreflightError(f"model is a {kind.__name__}: {_WRAPPERS[kind.__name__]}")
    for name, values in model.state_dict().items():
        if not isinstance(values, Tensor):
            continue
        if values.is_meta:
            raise PreflightError(
                f"{name!r} of the model is on the device 'meta' and has no values; build the model "
                "on a real device"
            )
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise PreflightError(
                f"{name!r} of the model holds NaN or infinity; build it anew, or load good weights"
            )


def check_weights(weights: Weights) -> None:
    """Make sure that the first weights are numbers.

    Raises
    ------
    PreflightError
        If a value is not finite.
    """
    bad = first_non_finite(weights)
    if bad is not None:
        raise PreflightError(
            f"{bad!r} of the initial weights holds NaN or infinity; no round could mend that"
        )


def misfit(error: NameFitError, model: nn.Module) -> PreflightError:
    """Why the first weights are not those of the model, and what to do about it."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    kept = [name for name in error.missing if name in parameters]
    mend = "give observe the network whose state_dict is exchanged"
    if kept and not error.unexpected:
        mend = (
            "clients keep these for themselves, so the average is no whole network in which "
            "circuits could be found: exchange them too, or observe without model and probe, which "
            "records every round"
        )
    return PreflightError(
        "model and weights do not fit: "
        + short(
            f"missing {list(error.missing)}, unexpected {list(error.unexpected)}, other shapes "
            f"{list(error.shapes)}"
        )
        + f"; {mend}"
    )
