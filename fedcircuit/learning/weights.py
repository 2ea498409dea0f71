"""A model's weights as named NumPy arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Weights = Mapping[str, NDArray[np.generic]]  # name of a parameter or buffer -> values


def get_weights(model: nn.Module) -> dict[str, NDArray[np.generic]]:
    """Copies of all parameters and persistent buffers, in the order of ``state_dict``."""
    return {
        name: value.detach().cpu().contiguous().numpy().copy()
        for name, value in model.state_dict().items()
    }


def set_weights(model: nn.Module, weights: Weights) -> None:
    """Load named arrays into the model, cast to the model's own dtypes.

    Averages come back as float64 where a buffer holds integers; they are rounded here.

    Raises
    ------
    ValueError
        If names or shapes differ from the model's; the first difference is named.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    extra = [name for name in weights if name not in own]
    if missing or extra:
        raise ValueError(f"weights do not fit the model: missing {missing}, unexpected {extra}")
    with torch.no_grad():
        for name, target in own.items():
            values = np.asarray(weights[name])
            if values.shape != tuple(target.shape):
                raise ValueError(
                    f"weights do not fit the model: {name!r} has shape {values.shape}, "
                    f"expected {tuple(target.shape)}"
                )
            if not target.is_floating_point():
                values = np.rint(values)
            # a copy: never alias, and never write through, the caller's array
            target.copy_(torch.tensor(values))
