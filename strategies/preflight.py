"""Checks before the first round: what would fail in every round is refused before any work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedcircuit.circuits.sites import evaluating
from fedcircuit.learning.naming import NameFitError
from fedcircuit.learning.weights import Weights
from fedcircuit.records.reading import in_short
from fedcircuit.strategies.bounds import short
from fedcircuit.strategies.replies import first_non_finite

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
        If it is no module, is wrapped, has no weights yet, or other numbers than finite float32.
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
        if values.is_floating_point() and values.dtype != torch.float32:
            raise PreflightError(
                f"{name!r} of the model is {values.dtype}; circuits are looked for in float32: "
                "give model.float(), clients may train in another precision"
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


def check_inputs(model: nn.Module, inputs: Tensor, what: str) -> int:
    """The number of classes that the model tells apart on such inputs.

    Raises
    ------
    PreflightError
        If they are not finite, or the model does not take them or gives no logits for them.
    """
    if len(inputs) == 0:
        raise PreflightError(f"the {what} has no samples; give some of every class")
    if not torch.isfinite(inputs).all():
        count = int((~torch.isfinite(inputs.flatten(1))).any(1).sum())
        raise PreflightError(f"{count} of {len(inputs)} inputs of the {what} hold NaN or infinity")
    try:
        with evaluating(model), torch.no_grad():
            logits = model(inputs[:1])
    except Exception as error:
        raise PreflightError(
            f"the model does not take inputs of shape {tuple(inputs.shape)} ({what}): "
            f"{in_short(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise PreflightError(f"the model must give [n, classes] logits, it gave {got}")
    return int(logits.shape[1])


def check_labels(labels: Tensor, n_inputs: int, n_classes: int) -> Tensor:
    """Labels ``[n]`` int64 of a probe: whole numbers, each class at least twice.

    Raises
    ------
    PreflightError
        If they are anything else.
    """
    if labels.ndim != 1 or len(labels) != n_inputs:
        hint = "; one-hot labels become numbers with .argmax(1)" if labels.ndim == 2 else ""
        raise PreflightError(
            f"labels must be [n] for the probe's {n_inputs} inputs, got {tuple(labels.shape)}{hint}"
        )
    if labels.is_floating_point() and not bool((labels == labels.round()).all()):
        raise PreflightError("labels must be whole numbers, the indices of classes")
    whole = labels.to(torch.int64)
    low, high = int(whole.min()), int(whole.max())
    if low < 0 or high >= n_classes:
        raise PreflightError(
            f"labels must lie in 0..{n_classes - 1} (the model gives {n_classes} logits), got "
            f"{low}..{high}"
        )
    counts = torch.bincount(whole, minlength=n_classes)
    few = [str(index) for index in (counts < 2).nonzero().flatten().tolist()]
    if few:
        raise PreflightError(
            f"the probe has fewer than 2 samples of class {short(', '.join(few))}: one half finds "
            "circuits, the other checks them. Give more of these, or a Probe of your own to leave "
            "classes out on purpose"
        )
    return whole
