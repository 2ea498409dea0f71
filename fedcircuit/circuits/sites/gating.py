"""What a gate does to an activation."""

from __future__ import annotations

import torch
from torch import Tensor


def gate(activation: Tensor, gates: Tensor, axis: int, reference: Tensor | None = None) -> Tensor:
    """``reference + (activation - reference) * gates``, gates shaped along the unit axis.

    Parameters
    ----------
    activation
        ``[n, units, ...]`` (axis 1), ``[n, ..., units]`` (axis -1), or with the units on any
        other axis but the first.
    gates
        ``[units]``, or ``[n, units]`` with a row of its own for every sample.
    axis
        The unit axis.
    reference
        Broadcastable to one sample's activation ``[1, ...]``; None is zero ablation.
    """
    rows = gates if gates.ndim == 2 else gates.unsqueeze(0)
    shape = [rows.shape[0]] + [1] * (activation.ndim - 1)
    shape[axis] = rows.shape[1]
    shaped = rows.reshape(shape).to(activation.dtype)
    if reference is None:
        return activation * shaped
    return torch.lerp(reference.expand_as(activation), activation, shaped.expand_as(activation))


def of_its_own(result: Tensor, output: Tensor) -> Tensor:
    """The result, copied if it shares memory with ``output``.

    What a hook kept of the output is then safe from in-place operations behind the module.
    """
    shared = result.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    return result.clone() if shared else result
