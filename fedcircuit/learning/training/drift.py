"""The client's part of SCAFFOLD and FedDyn: what is added to its steps, and what it remembers.

What a client remembers is made of numbers that it also sends, by functions that take no others, so
whoever has a record of what was sent can work it out again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.learning import Weights
from fedcircuit.learning.training.objectives import proximal_term


@dataclass(frozen=True)
class Drift:
    """What a round corrects a client's drift by, by parameter; one that is not there is 0.

    Parameters
    ----------
    correction
        SCAFFOLD's ``c - c_k``: the server's control variate minus the client's.
    gradient
        FedDyn's ``g_k``: the gradient that the client's rounds so far have settled on.
    """

    correction: Weights = field(default_factory=dict)
    gradient: Weights = field(default_factory=dict)


class CorrectedSteps:
    """Steps with SCAFFOLD's corrected gradients (Karimireddy et al. 2020, arXiv 1910.06378).

    A step is taken with ``g + c - c_k``; afterwards the parameters have their own gradient g again.
    The mean of all g is the client's next control variate: with plain SGD this is the paper's
    option II, ``c_k - c + (w_t - w_k) / (K lr)``, and it stays the mean gradient with momentum,
    weight decay and sparse weights, where that formula would mix them in.

    Parameters
    ----------
    model
        Trained in place.
    correction
        ``c - c_k`` by parameter.
    on
        False changes and sums nothing.

    Raises
    ------
    ValueError
        If the correction is another model's.
    """

    def __init__(self, model: nn.Module, correction: Weights, *, on: bool = True) -> None:
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad} if on else {}
        self._added = _like("control variate", trained, correction) if on else {}
        self._parameters = trained
        self._sums = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in trained.items()}
        self._steps = 0

    def around(self, step: Callable[[], None]) -> Callable[[], None]:
        """The step with corrected gradients."""
        return self._corrected(step) if self._parameters else step

    def _corrected(self, step: Callable[[], None]) -> Callable[[], None]:
        def corrected() -> None:
            own = {n: p.grad for n, p in self._parameters.items() if p.grad is not None}
            for name, gradient in own.items():
                self._sums[name] += gradient
                if name in self._added:
                    self._parameters[name].grad = gradient + self._added[name]
            self._steps += 1
            step()
            for name, gradient in own.items():
                self._parameters[name].grad = gradient

        return corrected

    def mean_gradient(self) -> dict[str, NDArray[np.float32]]:
        """By parameter, over all steps; empty where nothing was asked for."""
        return {
            name: (total / max(1, self._steps)).float().cpu().numpy().copy()
            for name, total in self._sums.items()
        }


def dynamic_term(
    model: nn.Module, start: Mapping[str, Tensor], gradient: Mapping[str, Tensor], alpha: float
) -> Tensor:
    """FedDyn's penalty ``alpha / 2 |w - w_t|^2 - <g_k, w>`` (Acar et al. 2021, arXiv 2111.04263).

    Parameters
    ----------
    start
        ``w_t``, where the round started, by parameter.
    gradient
        ``g_k`` of :func:`dynamic_gradient`; one that is not there is 0.
    """
    term = alpha * proximal_term(model, start)
    for name, parameter in model.named_parameters():
        if name in gradient:
            term = term - (gradient[name] * parameter).sum()
    return term


def dynamic_gradient(model: nn.Module, gradient: Weights) -> dict[str, Tensor]:
    """What a client remembers for FedDyn, beside the parameters that it belongs to.

    Raises
    ------
    ValueError
        If it is another model's.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return _like("gradient of FedDyn", trained, gradient)


def next_gradient(
    before: Weights, start: Weights, trained: Weights, alpha: float
) -> dict[str, NDArray[np.float32]]:
    """FedDyn's ``g_k - alpha (w_k - w_t)``, of the floating-point tensors of ``trained``.

    Parameters
    ----------
    before
        What it was; empty in a client's first round.
    start, trained
        Weights before and after the round's training.
    """
    found = {}
    for name, values in trained.items():
        if values.dtype.kind == "f":
            moved = values.astype(np.float64) - np.asarray(start[name], np.float64)
            was = np.asarray(before.get(name, 0.0), np.float64)
            found[name] = np.asarray(was - alpha * moved, np.float32)
    return found


def _like(what: str, parameters: Mapping[str, Tensor], values: Weights) -> dict[str, Tensor]:
    found = {}
    for name, own in values.items():
        parameter = parameters.get(name)
        if parameter is None:
            continue
        if own.shape != tuple(parameter.shape):
            raise ValueError(
                f"the kept {what} has {name!r} of shape {own.shape}, the parameter has "
                f"{tuple(parameter.shape)}; keep one state for each model"
            )
        found[name] = torch.tensor(own, dtype=parameter.dtype, device=parameter.device)
    return found
