"""Names of weights that are only numbered, as in the legacy API and in lists of arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fedcircuit.learning import Weights
from fedcircuit.strategies.preflight.checks import PreflightError


class WeightNames:
    """Gives numbered weights their names, the same in every round.

    Parameters
    ----------
    given
        The names, in the order of the arrays; None takes those of the model.
    model
        The network: all of its ``state_dict()``, or its parameters alone, whichever has as many
        tensors of these shapes.
    """

    def __init__(self, given: Sequence[str] | None, model: nn.Module | None) -> None:
        self._given = None if given is None else tuple(given)
        self._model = model
        self._names: tuple[str, ...] | None = None
        self._settled = False

    def of(self, weights: Weights) -> dict[str, NDArray[np.generic]]:
        """Weights under their names; as they came, where it is another number of arrays.

        The first weights of a run decide.

        Raises
        ------
        PreflightError
            If those are another number than the names given, or fit the model in neither way.
        """
        if not _numbered(weights):
            return dict(weights)
        if not self._settled:
            self._names = self._decided(list(weights.values()))
            self._settled = True
        if self._names is None or len(self._names) != len(weights):
            return dict(weights)
        return dict(zip(self._names, weights.values(), strict=True))

    def _decided(self, arrays: Sequence[NDArray[np.generic]]) -> tuple[str, ...] | None:
        if self._given is None:
            return None if self._model is None else _names_in(self._model, arrays)
        if len(self._given) != len(arrays):
            raise PreflightError(
                f"{len(self._given)} names of parameters for {len(arrays)} arrays; give "
                "param_names in the order in which the arrays are exchanged"
            )
        return self._given


def _numbered(weights: Weights) -> bool:
    return list(weights) == [str(index) for index in range(len(weights))]


def _names_in(model: nn.Module, arrays: Sequence[NDArray[np.generic]]) -> tuple[str, ...]:
    """Names of the model's tensors that these arrays are."""
    whole = model.state_dict()
    parameters = dict(model.named_parameters())
    came = [tuple(values.shape) for values in arrays]
    for tensors in (whole, {name: whole[name] for name in parameters if name in whole}):
        if came == [tuple(values.shape) for values in tensors.values()]:
            return tuple(tensors)
    raise PreflightError(
        f"model and weights do not fit: {len(arrays)} arrays without names came, whose shapes are "
        f"neither those of the model's {len(whole)} tensors nor of its {len(parameters)} "
        "parameters, in this order; give param_names, or observe the network whose state_dict is "
        "exchanged"
    )
