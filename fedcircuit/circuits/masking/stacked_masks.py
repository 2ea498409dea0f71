"""Many models of one architecture under many masks, all in one batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits import Site, split_by_site
from fedcircuit.circuits.masking.stacked_models import Stack

_BATCH_BYTES = 2**20  # gates of one batch of rows


@dataclass(frozen=True)
class StackedModels:
    """Models under masks, on known samples that are counted once for every model.

    The counterpart of `fedcircuit.circuits.masking.MaskedModel`, made by `masked_models`; sample i
    of model m is at ``m * n + i``.

    Parameters
    ----------
    stack
        The models.
    change
        Activations of the first site less the reference, ``[models * n, units]``.
    own
        Logits of the models themselves, ``[models * n, classes]``.
    reference
        For each site the activation of ablated units, ``[models, 1, units]``; None is zero.
    constants
        For each layer behind the first what it makes of ablated units, ``[models, 1, out]``.
    """

    stack: Stack
    change: Tensor
    own: Tensor
    reference: tuple[Tensor, ...] | None
    constants: tuple[Tensor, ...]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites of the models."""
        return self.stack.layers.sites

    def full_logits(self) -> Tensor:
        """Logits of the models themselves, ``[models * n, classes]``."""
        return self.own

    def has_path(self, masks: Tensor, owners: Tensor) -> Tensor:
        """Whether a path leads through mask i in the model ``owners[i]``, ``[rows]`` bool."""
        return self.stack.has_path(masks, owners)

    @torch.no_grad()
    def pair_logits(self, masks: Tensor, mask_index: Tensor, sample_index: Tensor) -> Tensor:
        """Logits of chosen masks on chosen samples, ``[rows, classes]``."""
        result = self.own.new_empty(len(mask_index), self.own.shape[1])
        if not len(mask_index):
            return result
        device, gates = self.change.device, masks.to(self.change)
        owners = sample_index // (len(self.own) // len(self.stack))
        for models, rows, real in _blocks(owners, _BATCH_BYTES // (4 * masks.shape[1])):
            flat = rows.flatten()
            samples, which = sample_index[flat].to(device), mask_index[flat].to(device)
            shape = *rows.shape, -1
            change = self.change.index_select(0, samples).reshape(shape)
            chosen = None if len(models) == len(self.stack) else models.to(device)
            open_ = gates.index_select(0, which).reshape(shape)
            logits = self._gated(change, open_, chosen).cpu().flatten(0, 1)
            kept = real.flatten()
            result[flat[kept]] = logits[kept]
        return result

    def _gated(self, change: Tensor, gates: Tensor, models: Tensor | None) -> Tensor:
        """Logits ``[models, rows, classes]`` of all models or some, from the first site's change.

        What an ablated unit adds is in the constants: gates are on what differs from it.
        """

        def of(part: Tensor) -> Tensor:
            return part if models is None else part.index_select(0, models)

        parts = list(split_by_site(gates, self.sites).values())
        value = change.mul_(parts[0])
        for place, constant in enumerate(self.constants, start=1):
            weight = of(self.stack.weights[place]).transpose(1, 2)
            value = torch.baddbmm(of(constant), value, weight)
            if place == len(self.constants):
                break
            value = self.stack.layers.activated(place, value)
            if self.reference is not None:
                value = value - of(self.reference[place])
            value = value * parts[place]
        return value


def masked_models(
    stack: Stack,
    first: Tensor,
    own: Tensor,
    reference: tuple[Tensor, ...] | None,
) -> StackedModels:
    """Prepare models to run under many masks.

    Parameters
    ----------
    stack, reference
        As in `StackedModels`.
    first
        Activations of the first site, ``[models, n, units]``.
    own
        Logits, ``[models, n, classes]``.
    """
    layers, change = zip(stack.weights[1:], stack.biases[1:], strict=True), first
    constants = list(stack.biases[1:])
    if reference is not None:
        change = first - reference[0]
        constants = [
            torch.baddbmm(bias, ablated, weight.transpose(1, 2))
            for (weight, bias), ablated in zip(layers, reference, strict=True)
        ]
    flat, logits = change.flatten(0, 1), own.flatten(0, 1).cpu()
    return StackedModels(stack, flat, logits, reference, tuple(constants))


def _blocks(owners: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows in blocks of about ``most``, in each as many of every model that has any left.

    Yields
    ------
    tuple of Tensor
        Models ``[k]`` ascending, their rows ``[k, some]``, and which of these are real (bool): a
        model with fewer is filled up with any of its rows, which is run and not used.
    """
    counts = torch.bincount(owners)
    starts, order = counts.cumsum(0) - counts, owners.argsort(stable=True)
    done, last = 0, int(counts.max())
    while done < last:
        models = (counts > done).nonzero().flatten()
        left = counts[models] - done
        some = min(max(1, most // len(models)), int(left.max()))
        columns = torch.arange(some)
        real = columns < left[:, None]
        places = (starts[models] + done)[:, None] + torch.where(real, columns, 0)
        yield models, order[places], real
        done += some
