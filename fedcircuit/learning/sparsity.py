"""Weight sparsity by magnitude: which weights a network keeps, and how many it really has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from fedcircuit.learning.weights import Weights


@dataclass(frozen=True)
class WeightSparsity:
    """How sparse local training makes the weights (as in arXiv 2512.23043, code of 2025-12).

    Parameters
    ----------
    target
        Share of zero weights in every tensor at the end of a round, in [0, 1].
    anneal
        Share of the round's steps over which sparsity grows linearly from 0 to ``target``.
    min_alive
        Every filter of a convolution keeps at least this many weights, its own largest.
    mask
        ``magnitude``: the mask is made anew after every step, pruned weights can come back.
        ``persistent``: weights that are zero on arrival stay zero, without annealing; the server
        sends weights already cut, so that the common support survives averaging.

    Raises
    ------
    ValueError
        If a share lies outside [0, 1] or ``min_alive`` is negative.
    """

    target: float
    anneal: float = 0.5
    min_alive: int = 4
    mask: Literal["magnitude", "persistent"] = "magnitude"

    def __post_init__(self) -> None:
        for name, share in (("target", self.target), ("anneal", self.anneal)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} of the sparsity must lie in [0, 1], got {share}")
        if self.min_alive < 0:
            raise ValueError(f"min_alive must be >= 0, got {self.min_alive}")

    def at(self, step: int, n_steps: int) -> float:
        """Sparsity after step ``step`` (from 0) of a round of ``n_steps``."""
        ramp = self.anneal * n_steps
        return self.target if ramp <= 0 else self.target * min(1.0, step / ramp)


def is_sparsifiable(tensor: Tensor) -> bool:
    """True for weights of conv and linear layers: more than one dimension."""
    return tensor.ndim > 1 and tensor.is_floating_point()


def magnitude_mask(weight: Tensor, sparsity: float, *, min_alive: int) -> Tensor:
    """Boolean mask of the ``int((1 - sparsity) * n)`` largest magnitudes, at least one.

    Ties with the smallest kept magnitude are kept. In a convolution every filter with fewer than
    ``min_alive`` kept weights gets its own ``min_alive`` largest back.
    """
    magnitude = weight.detach().abs()
    n_keep = max(1, int((1.0 - sparsity) * magnitude.numel()))
    if n_keep >= magnitude.numel():
        return torch.ones_like(magnitude, dtype=torch.bool)
    threshold = magnitude.flatten().topk(n_keep, sorted=True).values[-1]
    mask = magnitude >= threshold
    if weight.ndim > 2 and min_alive > 0:
        filters = magnitude.flatten(1)
        own = filters.topk(min(min_alive, filters.shape[1]), dim=1).indices
        floor = torch.zeros_like(filters, dtype=torch.bool).scatter_(1, own, value=True)
        kept = mask.flatten(1)
        dying = kept.sum(1, keepdim=True) < min_alive
        mask = (kept | (floor & dying)).reshape(mask.shape)
    return mask


@torch.no_grad()
def sparsify_(model: nn.Module, sparsity: float, *, min_alive: int) -> None:
    """Zero the smallest weights of every conv and linear layer in place."""
    for parameter in model.parameters():
        if is_sparsifiable(parameter):
            # not a product: -1 * 0 is -0.0, which is a stored value on disk
            mask = magnitude_mask(parameter, sparsity, min_alive=min_alive)
            parameter.masked_fill_(~mask, 0.0)


def support_masks(model: nn.Module, sparsity: WeightSparsity) -> dict[str, Tensor]:
    """Masks of persistent sparsity: the non-zero weights, by parameter name.

    A tensor that arrives dense gets its mask by magnitude, once.
    """
    masks = {}
    for name, parameter in model.named_parameters():
        if is_sparsifiable(parameter):
            support = parameter.detach() != 0
            if bool(support.all()):
                support = magnitude_mask(parameter, sparsity.target, min_alive=sparsity.min_alive)
            masks[name] = support
    return masks


@torch.no_grad()
def apply_masks_(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero, in place, the weights outside the masks."""
    for name, parameter in model.named_parameters():
        if name in masks:
            parameter.masked_fill_(~masks[name], 0.0)


def sparsified(weights: Weights, sparsity: WeightSparsity) -> Weights:
    """Copies of the weights cut to the target by magnitude, as at the end of a round."""
    cut = {}
    for name, values in weights.items():
        tensor = torch.from_numpy(np.array(values))
        if is_sparsifiable(tensor):
            mask = magnitude_mask(tensor, sparsity.target, min_alive=sparsity.min_alive)
            tensor = tensor.masked_fill(~mask, 0.0)
        cut[name] = tensor.numpy()
    return cut


def density(weights: Weights) -> dict[str, float]:
    """Share of non-zero entries, in [0, 1], of every tensor with more than one dimension."""
    return {
        name: float(np.count_nonzero(values)) / values.size
        for name, values in weights.items()
        if values.ndim > 1 and values.size
    }


class Pruning:
    """Keeps the weights sparse in a round: after every step, and to the full target at the end.

    Parameters
    ----------
    model
        Trained in place.
    sparsity
        None keeps nothing sparse.
    n_steps
        Of the round.
    """

    def __init__(self, model: nn.Module, sparsity: WeightSparsity | None, n_steps: int) -> None:
        self._model, self._sparsity, self._n_steps = model, sparsity, n_steps
        self._masks: dict[str, Tensor] | None = None
        if sparsity is not None and sparsity.mask == "persistent":
            self._masks = support_masks(model, sparsity)
            apply_masks_(model, self._masks)

    def after_step(self, step: int) -> None:
        """Prune after step ``step``, from 0."""
        if self._masks is not None:
            apply_masks_(self._model, self._masks)
        elif self._sparsity is not None:
            share = self._sparsity.at(step, self._n_steps)
            if share > 0:
                sparsify_(self._model, share, min_alive=self._sparsity.min_alive)

    def at_end(self) -> None:
        """Prune to the target after the last step."""
        if self._sparsity is not None and self._masks is None:
            sparsify_(self._model, self._sparsity.target, min_alive=self._sparsity.min_alive)
