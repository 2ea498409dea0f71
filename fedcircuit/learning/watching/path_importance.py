"""How much each layer's steps have changed the loss: |<gradient, step>| summed over the steps.

A term in the style of synaptic intelligence (Zenke et al. 2017, arXiv 1703.04200), by which LIVAR
(arXiv 2507.06813) weights clients' layers. Sums go on over all rounds of a client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fedcircuit.learning.networks import layer_weights, low_rank_factors


class PathImportance:
    """Follows the weights of a model's layers, and factors of LoRA, from step to step.

    The gradient must be that of the loss itself: not clipped, and without the factor of a loss
    scaler. The step is what the optimiser made of it. Weights without a gradient are not followed
    in that step.

    Parameters
    ----------
    model
        Whose weights are trained in place.
    before
        Sums of the client's earlier rounds, by weight.
    on
        False follows nothing.

    Raises
    ------
    ValueError
        If the sums are of weights that the model does not have.
    """

    def __init__(self, model: nn.Module, before: Mapping[str, float], *, on: bool = True) -> None:
        weights = {**layer_weights(model), **low_rank_factors(model)} if on else {}
        self._weights = {name: p for name, p in weights.items() if p.requires_grad}
        if on and (odd := sorted(set(before) - set(self._weights))):
            raise ValueError(
                f"the kept path importance has {odd[0]!r}, the model's layers are "
                f"{list(self._weights)}; keep one state for each model"
            )
        self._sums = {name: _float64(before.get(name, 0.0), p) for name, p in self._weights.items()}

    def take(self, step: Callable[[], None]) -> None:
        """Take a step, and add |<gradient, before - after>| of every weight.

        Parameters
        ----------
        step
            Changes the weights by their gradients, which are there, and keeps the gradients.
        """
        followed = {k: p for k, p in self._weights.items() if p.grad is not None}
        before = {name: weight.detach().clone() for name, weight in followed.items()}
        step()
        for name, weight in followed.items():
            if weight.grad is not None:
                moved = (before[name].double() - weight.detach().double()).flatten()
                self._sums[name] += torch.dot(weight.grad.double().flatten(), moved).abs()

    def sums(self) -> dict[str, float]:
        """By weight, over all rounds so far."""
        return {name: float(value) for name, value in self._sums.items()}


def _float64(value: float, like: Tensor) -> Tensor:
    return torch.tensor(float(value), dtype=torch.float64, device=like.device)
