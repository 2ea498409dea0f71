"""Many circuits of one network on known samples, each run without its ablated units.

To what `fedcircuit.circuits.masking.compact` does two things are added. A circuit that keeps most
units of the first site is what the next layer makes of all of them, computed once, less the part of
those that it lacks. And small networks are not cut out at all: there the time goes into the calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits import Site
from fedcircuit.circuits.masking.compact import (
    Link,
    Rest,
    kept_units,
    kept_values,
    rest_of,
    some_units,
)
from fedcircuit.circuits.masking.memory import Memory

_LEAST_SHARED = 8  # rows of one mask from which it pays to cut its network out,
_LEAST_WORK = 10**7  # if the whole network takes this many multiplications for them


@dataclass(frozen=True)
class CutOut:
    """A chain of layers on known samples; made by `cut_out`.

    Parameters
    ----------
    rest, sites
        The network behind its first site, and its sites.
    first
        Activations of the first site less those of ablated units, ``[n, units, ...]``, ungated.
    sums
        What the next layer makes of them, bias included, before any nonlinearity; None where that
        would not fit.
    work
        Multiplications of one sample behind the first site.
    """

    rest: Rest
    sites: tuple[Site, ...]
    first: Tensor
    sums: Tensor | None
    work: int

    def pays(self, n_rows: int, n_masks: int) -> bool:
        """Whether this is faster than gates, for so many rows under so many masks."""
        shared = n_rows / max(1, n_masks)
        return shared >= _LEAST_SHARED and shared * self.work >= _LEAST_WORK

    def logits(self, masks: Tensor, which: Tensor, samples: Tensor, batch: int) -> Tensor:
        """Logits of the rows ``[rows, classes]``, mask by mask.

        Parameters
        ----------
        masks
            ``[masks, units]`` bool.
        which, samples
            ``[rows]`` int64: mask and sample of each row.
        batch
            Most rows in one pass.
        """
        order, pieces = which.argsort(stable=True), []
        for rows in torch.split(order, which.bincount(minlength=len(masks)).tolist()):
            if not len(rows):
                continue
            kept = kept_units(masks[which[rows[0]]], self.sites)
            pieces += [self._one(part, kept) for part in torch.split(samples[rows], batch)]
        logits = torch.cat(pieces)
        return torch.empty_like(logits).index_copy_(0, order, logits)

    def _one(self, samples: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """Logits of one circuit; from the sums where that is less work."""
        link = self.rest.links[0]
        n_out, n_in = link.weight.shape[:2]
        lost = torch.ones(n_in, dtype=torch.bool, device=samples.device)
        lost[kept[0]] = False
        without = lost.nonzero().flatten()
        n_read = len(kept[1]) if len(kept) > 1 else n_out
        if self.sums is None or len(without) * n_out >= len(kept[0]) * n_read:
            return self.rest.logits(_picked(self.first, samples, some_units(kept[0])), kept)
        # with nothing lost one unit is taken away times zero
        some = some_units(without)
        weight = link.weight[:, some] * (-1.0 if len(without) else 0.0)
        every = torch.arange(n_out, device=samples.device)
        sums = _samples(self.sums, samples)
        value = link.apply(_picked(self.first, samples, some), weight, sums, every)
        if len(kept) == 1:
            return value
        behind = self.rest.behind_first()
        return behind.logits(kept_values(value, some_units(kept[1]), behind.reference), kept[1:])


@torch.no_grad()
def cut_out(
    links: tuple[Link, ...],
    sites: Sequence[Site],
    first: Tensor,
    sizes: Sequence[int],
    reference: tuple[Tensor, ...] | None,
    *,
    memory: Memory,
) -> CutOut:
    """Prepare a network for many circuits.

    Parameters
    ----------
    links, sites
        The network behind its first site, and its sites.
    first
        Activations of the first site ``[n, units, ...]``, ungated.
    sizes
        Numbers in one sample's activation of every site.
    reference
        For every site the activation of ablated units ``[1, units, ...]``; None is zero.
    memory
        How much may be kept.
    """
    places = (size // site.n_units for size, site in zip(sizes, sites, strict=True))
    work = sum(
        link.weight.numel() * (n if link.is_conv else 1)
        for link, n in zip(links, places, strict=True)
    )
    link = links[0]
    one = link.sums(first[:1])
    fits = memory.fits(one.numel() * one.element_size() * len(first))
    change = first if reference is None else first - reference[0]
    # units are picked fastest where the numbers of each lie side by side
    plain = change.contiguous()
    sums = link.sums(first) if fits else None
    return CutOut(rest_of(links, reference), tuple(sites), plain, sums, work)


def _samples(values: Tensor, samples: Tensor) -> Tensor:
    """Some samples of ``[n, units, ...]``, in the same layout."""
    if values.ndim != 4:
        return values.index_select(0, samples)
    return values.permute(0, 2, 3, 1).index_select(0, samples).permute(0, 3, 1, 2)


def _picked(values: Tensor, samples: Tensor, units: Tensor) -> Tensor:
    """Some samples and units of ``[n, units, ...]``; maps in channels-last layout."""
    chosen = values.index_select(0, samples).index_select(1, units)
    return chosen.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else chosen
