"""What training leaves behind: the optimiser's state as named arrays, and the last gradient."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.learning.training.optimizer_steps import Optimizer

State = Mapping[str, NDArray[np.generic]]  # "parameter/slot" -> values


def optimizer_arrays(model: nn.Module, optimizer: Optimizer) -> dict[str, NDArray[np.generic]]:
    """Copies of all tensors that the optimiser keeps, named ``parameter/slot``.

    Adam keeps ``step``, ``exp_avg`` and ``exp_avg_sq`` of every parameter, SGD with momentum its
    ``momentum_buffer``; without momentum there is nothing to keep. A parameter that had no gradient
    yet has none.
    """
    return {
        f"{name}/{slot}": np.array(values.detach().cpu().numpy())
        for name, parameter in model.named_parameters()
        for slot, values in optimizer.state.get(parameter, {}).items()
        if isinstance(values, Tensor)
    }


def restore_optimizer_(model: nn.Module, optimizer: Optimizer, state: State) -> None:
    """Put arrays of :func:`optimizer_arrays` into a fresh optimiser of the same model and kind.

    Raises
    ------
    ValueError
        If the arrays belong to parameters that the model does not have, or have other shapes.
    """
    parameters = dict(model.named_parameters())
    for key, values in state.items():
        name, _, slot = key.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None:
            raise ValueError(
                f"the kept state of the optimiser has {key!r}, the model has no parameter {name!r} "
                f"but {list(parameters)}; keep one state for each model"
            )
        own = optimizer.state.setdefault(parameter, {})
        if slot == "step":  # a number, which torch keeps on the CPU
            own[slot] = torch.tensor(values)
        elif values.shape == tuple(parameter.shape):
            own[slot] = torch.tensor(values, device=parameter.device)
        else:
            raise ValueError(
                f"the kept state of the optimiser has {key!r} of shape {values.shape}, the "
                f"parameter has {tuple(parameter.shape)}; keep one state for each model"
            )


def last_gradient(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The gradient that the last step of training used, by name of the parameter; copies.

    After local training it is that of the local objective (with FedProx's term and FedRS's scales,
    where the training has them) on the last mini-batch, at the weights before that step; without
    weight decay, momentum and clipping. It is read from ``parameter.grad``, so it holds until the
    next backward pass through the model: read it before circuits are looked for.

    Returns
    -------
    dict
        float32 arrays of the parameters' shapes; a parameter without a gradient (frozen, or a
        model that was not trained) is left out.
    """
    return {
        name: np.array(parameter.grad.detach().float().cpu().numpy())
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
