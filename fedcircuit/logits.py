"""Where logits are made and read: one row of numbers for every sample, one column for every class.

Every forward pass over a user's model whose logits matter goes through `logits_of`, and every
prediction through `predicted`, so that what a model gives is understood in one way everywhere: a
single logit stands for two classes, an output with a field ``logits`` for that field, and a row
that is not finite for no class at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

NO_CLASS = -1  # what a sample is assigned to whose logits are not finite


class LogitsError(ValueError):
    """A model gives something else than one row of logits for every sample."""


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Logits ``[n, classes]`` of the model on inputs ``[n, ...]``.

    Floating inputs are taken in the model's own type and every input on its device; integers
    (tokens) stay what they are.

    Raises
    ------
    LogitsError
        If the model gives no logits, see `as_logits`.
    """
    return as_logits(model(inputs_for(model, inputs)), len(inputs), type(model).__name__)


def inputs_for(model: nn.Module, inputs: Tensor) -> Tensor:
    """The inputs in the floating type, and on the device, of the model's first such parameter."""
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    if like is None:
        return inputs
    if inputs.is_floating_point() and inputs.dtype != like.dtype:
        return inputs.to(like.device, like.dtype)
    return inputs if inputs.device == like.device else inputs.to(like.device)


def as_logits(output: object, n: int, model: str = "the model") -> Tensor:
    """What a model gave for ``n`` samples as logits ``[n, classes]``.

    A tensor ``[n, classes]`` is that; one logit a sample, ``[n, 1]`` or ``[n]``, becomes the two
    logits 0 and z, whose softmax is the sigmoid of z: class 1 where z is positive.

    Parameters
    ----------
    output
        A tensor, or an object or mapping with a tensor ``logits``.
    n
        Samples that went in.
    model
        Its name for messages.

    Raises
    ------
    LogitsError
        If it is anything else: several outputs, or a map of logits.
    """
    raw = raw_logits(output, n, model)
    return torch.cat([torch.zeros_like(raw), raw], dim=1) if raw.shape[1] == 1 else raw


def raw_logits(output: object, n: int, model: str = "the model") -> Tensor:
    """As `as_logits`, but one logit stays one column."""
    found = output if isinstance(output, Tensor) else _field(output)
    if not isinstance(found, Tensor):
        raise LogitsError(
            f"{model} must give one tensor, its logits [n, classes], got {type(output).__name__}; "
            "wrap it in a module that returns the logits alone"
        )
    one_each = found.numel() == n and (found.ndim == 1 or (n == 1 and found.ndim == 0))
    if not found.is_floating_point() or not (one_each or (found.ndim == 2 and len(found) == n)):
        raise LogitsError(_other_shape(found, n, model))
    return found.reshape(n, 1) if one_each else found


def _field(output: object) -> object:
    return output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)


def _other_shape(found: Tensor, n: int, model: str) -> str:
    start = (
        f"{model} must give [n, classes] logits, it gave {tuple(found.shape)} "
        f"{str(found.dtype).removeprefix('torch.')} for {n} "
        f"{'sample' if n == 1 else 'samples'}"
    )
    if found.is_complex():
        return f"{start}; return real numbers, such as .real or .abs() of these"
    if not found.is_floating_point():
        return f"{start}; return the logits themselves, not the classes that they are largest for"
    if found.ndim > 2 and len(found) == n and sum(side > 1 for side in found.shape[1:]) <= 1:
        return f"{start}; wrap the model in a module that drops the axes of size 1: .flatten(1)"
    if found.ndim > 2:
        pooled = (
            ".mean(1) of [n, positions, classes]"
            if found.ndim == 3
            else ".mean((2, 3)) of a map [n, classes, height, width]"
        )
        return (
            f"{start}: one row of logits for every position. Circuits are looked for of the class "
            f"of a whole sample: wrap the model in a module that pools the positions, such as "
            f"{pooled}"
        )
    return f"{start}; every sample must have one row"


def predicted(logits: Tensor) -> Tensor:
    """Class of the largest logit, ``[...]`` int64 of ``[..., classes]``.

    `NO_CLASS`, which is no class, where a logit is NaN or infinite.
    """
    return torch.where(logits.isfinite().all(-1), logits.argmax(-1), NO_CLASS)


def n_not_finite(logits: Tensor) -> int:
    """How many rows of ``[..., classes]`` hold a logit that is NaN or infinite."""
    return int((~logits.isfinite().all(-1)).sum())


def not_finite_reason(bad: int, n: int) -> str:
    """In words that of ``n`` samples ``bad`` have logits that are not finite; empty for none."""
    return f"the model's logits are NaN or infinite for {bad} of {n} samples" if bad else ""


@torch.no_grad()
def require_finite(model: nn.Module, inputs: Tensor, *, rows: int = 500) -> None:
    """Make sure that a model, in the mode it is in, gives finite logits for every input.

    Parameters
    ----------
    model, inputs
        The model and inputs ``[n, ...]``.
    rows
        Most samples in one forward pass.

    Raises
    ------
    NotFiniteError
        If it does not; the message says for how many.
    """
    bad = sum(n_not_finite(logits_of(model, part)) for part in torch.split(inputs, rows))
    if bad:
        raise NotFiniteError(bad, len(inputs))


class NotFiniteError(ValueError):
    """Logits of a model are NaN or infinite; ``bad`` of ``n`` samples have such."""

    def __init__(self, bad: int, n: int) -> None:
        super().__init__(not_finite_reason(bad, n))
        self.bad, self.n = bad, n
