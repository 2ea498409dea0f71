"""Weight sparsity by magnitude: which weights a network keeps, and how many it really has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from fedcircuit.learning import Weights, get_weights
from fedcircuit.learning.networks.layers import layer_weights

Count = Literal["exact", "published"]
_ROUNDING = 1e-6  # (1 - 0.9) * 100 is 9.999999999999998, and 10 weights are meant


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
    count
        ``exact``: of n weights of a layer ``floor((1 - target) * n)`` are kept, as in decimal
        arithmetic, and never more. ``published``: as the published code counts, in floating
        point, with all ties of the smallest weight kept, and in every tensor of more than one
        dimension, whether it is the weight of a layer or not; to reproduce its figures.

    Raises
    ------
    ValueError
        If a share lies outside [0, 1], ``min_alive`` is negative or ``count`` unknown.
    """

    target: float
    anneal: float = 0.5
    min_alive: int = 4
    mask: Literal["magnitude", "persistent"] = "magnitude"
    count: Count = "exact"

    def __post_init__(self) -> None:
        for name, share in (("target", self.target), ("anneal", self.anneal)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} of the sparsity must lie in [0, 1], got {share}")
        if self.min_alive < 0:
            raise ValueError(f"min_alive must be >= 0, got {self.min_alive}")
        if self.count not in get_args(Count):
            raise ValueError(f"count must be one of {get_args(Count)}, got {self.count!r}")

    def at(self, step: int, n_steps: int) -> float:
        """Sparsity after step ``step`` (from 0) of a round of ``n_steps``."""
        ramp = self.anneal * n_steps
        return self.target if ramp <= 0 else self.target * min(1.0, step / ramp)


def n_kept(n: int, sparsity: float, count: Count = "exact") -> int:
    """How many of n weights are kept: ``floor((1 - sparsity) * n)``, and at least one.

    ``published`` rounds down what floating point gives, so that 9 of 100 are kept at 0.9.
    """
    share = (1.0 - sparsity) * n
    return max(1, int(share) if count == "published" else floor(share + _ROUNDING))


def magnitude_mask(
    weight: Tensor, sparsity: float, *, min_alive: int, count: Count = "exact"
) -> Tensor:
    """Boolean mask of the :func:`n_kept` largest magnitudes.

    Of equal magnitudes the earlier entries are kept (in C order), so that the number is exact and
    the mask the same on every machine; with ``published`` all that equal the smallest kept one.
    In a convolution every filter with fewer than ``min_alive`` kept weights gets its own
    ``min_alive`` largest back, beyond that number. NaN counts as the largest: it is not hidden.
    """
    magnitude = weight.detach().abs().nan_to_num(nan=torch.inf, posinf=torch.inf)
    keep = n_kept(magnitude.numel(), sparsity, count) if magnitude.numel() else 0
    if keep >= magnitude.numel():
        return torch.ones_like(magnitude, dtype=torch.bool)
    flat = magnitude.flatten()
    least = flat.topk(keep).values.min()
    if count == "published":
        mask = flat >= least
    else:
        mask = flat > least
        ties = (flat == least).nonzero().flatten()
        mask[ties[: keep - int(mask.sum())]] = True
    if weight.ndim > 2 and min_alive > 0:
        _keep_filters_alive(mask.reshape(len(weight), -1), magnitude.flatten(1), min_alive)
    return mask.reshape(weight.shape)


def _keep_filters_alive(kept: Tensor, filters: Tensor, min_alive: int) -> None:
    """Give filters ``[n, weights]`` with too few kept weights their largest, in place."""
    dying = (kept.sum(1) < min_alive).nonzero().flatten()
    own = filters[dying].argsort(dim=1, descending=True, stable=True)[:, :min_alive]
    kept[dying[:, None], own] = True


@torch.no_grad()
def sparsify_(model: nn.Module, sparsity: float, *, min_alive: int, count: Count = "exact") -> None:
    """Zero the smallest weights of every layer in place; see :func:`~.layers.layer_weights`."""
    for parameter in _pruned(model, count).values():
        # not a product: -1 * 0 is -0.0, which is a stored value on disk
        mask = magnitude_mask(parameter, sparsity, min_alive=min_alive, count=count)
        parameter.masked_fill_(~mask, 0.0)


def _pruned(model: nn.Module, count: Count) -> dict[str, nn.Parameter]:
    if count == "exact":
        return layer_weights(model)
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and parameter.is_floating_point()
    }


def support_masks(model: nn.Module, sparsity: WeightSparsity) -> dict[str, Tensor]:
    """Masks of persistent sparsity: the non-zero weights, by parameter name.

    A tensor that arrives dense gets its mask by magnitude, once.
    """
    masks = {}
    for name, parameter in _pruned(model, sparsity.count).items():
        support = parameter.detach() != 0
        if bool(support.all()):
            support = _target_mask(parameter, sparsity)
        masks[name] = support
    return masks


def _target_mask(weight: Tensor, sparsity: WeightSparsity) -> Tensor:
    return magnitude_mask(
        weight, sparsity.target, min_alive=sparsity.min_alive, count=sparsity.count
    )


@torch.no_grad()
def apply_masks_(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero, in place, the weights outside the masks."""
    for name, parameter in model.named_parameters():
        if name in masks:
            parameter.masked_fill_(~masks[name], 0.0)


def sparsified(model: nn.Module, sparsity: WeightSparsity) -> Weights:
    """Copies of the model's weights cut to the target by magnitude, as at the end of a round."""
    weights = get_weights(model)
    for name, parameter in _pruned(model, sparsity.count).items():
        cut = parameter.detach().masked_fill(~_target_mask(parameter, sparsity), 0.0)
        weights[name] = cut.cpu().numpy()
    return weights


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
                self._prune(self._sparsity, share)

    def at_end(self) -> None:
        """Prune to the target after the last step."""
        if self._sparsity is not None and self._masks is None:
            self._prune(self._sparsity, self._sparsity.target)

    def _prune(self, sparsity: WeightSparsity, share: float) -> None:
        sparsify_(self._model, share, min_alive=sparsity.min_alive, count=sparsity.count)
