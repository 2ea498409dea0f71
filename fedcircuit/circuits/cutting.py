"""Many circuits of one network on known samples, each run without its ablated units.

To what `fedcircuit.circuits.compact` does two things are added. A circuit that keeps most units of
the first site is what the next layer makes of all of them, computed once, less the part of those
that it lacks. And small networks are not cut out at all: there the time goes into the calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.compact import Chain, kept_units

_LEAST_SHARED = 8  # rows of one mask from which it pays to cut its network out,
_LEAST_WORK = 10**7  # if the whole network takes this many multiplications for them
_SUMS_BYTES = 2**28  # sums behind the first site are kept up to this size


@dataclass(frozen=True)
class CutOut:
    """A chain of layers on known samples; made by `cut_out`.

    Parameters
    ----------
    chain, sites
        The network and its sites.
    first
        Activations of the first site ``[n, units, ...]``, ungated.
    sums
        What the next layer makes of them, bias included, before any nonlinearity; None where that
        would not fit.
    reference
        For every site the activation of ablated units ``[1, units, ...]``; None is zero.
    work
        Multiplications of one sample behind the first site.
    """

    chain: Chain
    sites: tuple[Site, ...]
    first: Tensor
    sums: Tensor | None
    reference: tuple[Tensor, ...] | None
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
        link, *rest = self.chain.links
        n_out, n_in = link.weight.shape[:2]
        lost = torch.ones(n_in, dtype=torch.bool, device=samples.device)
        lost[kept[0]] = False
        without = lost.nonzero().flatten()
        n_read = len(kept[1]) if rest else n_out
        if self.sums is None or len(without) * n_out >= len(kept[0]) * n_read:
            return self.chain.logits(_picked(self.first, samples), kept, self.reference)
        # with nothing lost one unit is taken away times zero: no tensor is ever empty
        some = without if len(without) else without.new_zeros(1)
        change = _picked(self.first, samples, some)
        if self.reference is not None:
            change = change - self.reference[0][:, some]
        weight = link.weight[:, some] * (-1.0 if len(without) else 0.0)
        every = torch.arange(n_out, device=samples.device)
        value = link.apply(change, weight, _picked(self.sums, samples), every)
        if not rest:
            return value
        reference = None if self.reference is None else self.reference[1:]
        return Chain(tuple(rest)).logits(value, kept[1:], reference)


@torch.no_grad()
def cut_out(
    chain: Chain,
    sites: Sequence[Site],
    first: Tensor,
    sizes: Sequence[int],
    reference: tuple[Tensor, ...] | None,
) -> CutOut:
    """Prepare a chain for many circuits.

    Parameters
    ----------
    chain, sites, first, reference
        As in `CutOut`.
    sizes
        Numbers in one sample's activation of every site.
    """
    places = (size // site.n_units for size, site in zip(sizes, sites, strict=True))
    work = sum(
        link.weight.numel() * (n if link.is_conv else 1)
        for link, n in zip(chain.links, places, strict=True)
    )
    link = chain.links[0]
    every = torch.arange(link.weight.shape[0], device=first.device)
    one = link.constant(first[:1], link.weight, every)
    fits = one.numel() * one.element_size() * len(first) <= _SUMS_BYTES
    sums = link.constant(first, link.weight, every) if fits else None
    return CutOut(chain, tuple(sites), first, sums, reference, work)


def _picked(values: Tensor, samples: Tensor, units: Tensor | None = None) -> Tensor:
    """Some samples, and some of the units, of ``[n, units, ...]``; maps in channels-last layout."""
    inner = values.permute(0, 2, 3, 1) if values.ndim == 4 else values
    chosen = inner.index_select(0, samples)
    if units is not None:
        chosen = chosen.index_select(-1, units)
    return chosen.permute(0, 3, 1, 2) if values.ndim == 4 else chosen
