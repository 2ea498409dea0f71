"""One model under many masks: every circuit is a row of gates, and rows of many circuits share
a batch.

Three things make this fast. Everything before the output of the first site is the same under every
mask, so it is computed once; convolutions run in the channels-last layout where the model can take
it (measured on a CPU with the small CNN: two to five times faster together); and where layers
simply follow one another, a mask that many samples share runs without its ablated units
(`fedcircuit.circuits.masking.cut_models`). Each is compared with the plain way before it is used.
How many rows share a batch, and what is kept between batches, follows from the memory there is
(`fedcircuit.circuits.masking.memory`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site, split_by_site
from fedcircuit.circuits.masking.ablation import Seen, reference_rows
from fedcircuit.circuits.masking.compact import links_of, references
from fedcircuit.circuits.masking.contrast_samples import Masked
from fedcircuit.circuits.masking.cut_models import CutOut, cut_out
from fedcircuit.circuits.masking.memory import Memory
from fedcircuit.circuits.models import agree, evaluating
from fedcircuit.circuits.paths import has_path
from fedcircuit.circuits.sites import capture, gate, gated, transformed
from fedcircuit.logits import as_logits, inputs_for, logits_of

_BATCH_BYTES = 2**22  # activations of the sites up to which a batch may have more rows than asked


@dataclass(frozen=True)
class MaskedModel:
    """A model, prepared to run on fixed inputs under many masks; made by `masked_model`.

    Parameters
    ----------
    model, sites
        The model and its sites.
    inputs
        ``[n, ...]``.
    reference
        By site name, the activation of an ablated unit ``[1, ...]``, or ``[n, ...]`` where it
        differs between the inputs; None is zero ablation.
    prefix
        Activations of the first site ``[n, ...]``, where everything behind the site depends on
        them alone; else None.
    batch
        Most rows (one mask on one sample each) in one forward pass, but where all the sites'
        activations take less than 4 MiB.
    memory
        How much may be held at a time: there may be fewer rows.
    sizes
        Numbers in one sample's activation of each site; empty where they are not known.
    own
        Logits of the model itself ``[n, classes]``, where they are known.
    cut
        The model as layers that follow one another, for masks that many samples share; None where
        it is none.
    """

    model: nn.Module
    sites: tuple[Site, ...]
    inputs: Tensor
    reference: Mapping[str, Tensor] | None
    prefix: Tensor | None
    batch: int
    memory: Memory
    sizes: tuple[int, ...] = ()
    own: Tensor | None = None
    cut: CutOut | None = None

    def logits(self, masks: Tensor) -> Tensor:
        """Logits of every mask on every sample, ``[masks, n, classes]``.

        Parameters
        ----------
        masks
            ``[masks, units]`` bool.
        """
        n = len(self.inputs)
        which = torch.arange(len(masks)).repeat_interleave(n)
        rows = self.pair_logits(masks, which, torch.arange(n).repeat(len(masks)))
        return rows.reshape(len(masks), n, rows.shape[-1])

    def pair_logits(self, masks: Tensor, mask_index: Tensor, sample_index: Tensor) -> Tensor:
        """Logits of chosen masks on chosen samples, ``[rows, classes]``.

        Parameters
        ----------
        masks
            ``[masks, units]`` bool.
        mask_index, sample_index
            ``[rows]`` int64: which mask and which sample each row is.
        """
        device = self.inputs.device
        masks, which, samples = masks.to(device), mask_index.to(device), sample_index.to(device)
        if not len(which):
            with evaluating(self.model), torch.no_grad():
                return torch.zeros(0, logits_of(self.model, self.inputs[:1]).shape[-1])
        with evaluating(self.model), torch.no_grad():
            if self.cut is not None and self.cut.pays(len(which), len(torch.unique(which))):
                return self._cut_logits(masks, which, samples)
            fitting = _BATCH_BYTES // (4 * sum(self.sizes)) if self.sizes else 0
            batch = self.memory.rows(graph=False, most=max(self.batch, fitting))
            rows = zip(torch.split(which, batch), torch.split(samples, batch), strict=True)
            return torch.cat([self._forward(masks[mask], sample) for mask, sample in rows]).cpu()

    def full_logits(self) -> Tensor:
        """Logits of the model itself, ``[n, classes]``."""
        if self.own is not None:
            return self.own
        return self.logits(torch.ones(1, sum(s.n_units for s in self.sites), dtype=torch.bool))[0]

    def has_path(self, masks: Tensor, owners: Tensor) -> Tensor:
        """Whether a path leads through each mask, ``[rows]`` bool; the model owns them all."""
        # numbers of eight bytes, and derivatives of derivatives: three times what a graph takes
        rows = max(1, self.memory.rows(graph=True, most=max(3, 3 * len(masks))) // 3)
        return has_path(self.model, self.sites, masks, self.inputs[:1], rows=rows)

    def _cut_logits(self, masks: Tensor, which: Tensor, samples: Tensor) -> Tensor:
        assert self.cut is not None
        batch = self.memory.rows(graph=False, most=self.batch)
        return as_logits(self.cut.logits(masks, which, samples, batch), len(which)).cpu()

    def _forward(self, gates: Tensor, samples: Tensor) -> Tensor:
        by_site = split_by_site(gates, self.sites)
        reference = reference_rows(self.reference, samples)
        logits: Tensor
        if self.prefix is None:
            with gated(self.model, self.sites, by_site, reference):
                logits = logits_of(self.model, self.inputs[samples])
            return logits
        first, rest = self.sites[0], self.sites[1:]
        mean = None if reference is None else reference[first.name]
        known = gate(self.prefix[samples], by_site[first.name], first.axis, mean)
        with (
            # one sample goes in; at the first site the whole batch takes its place
            transformed(self.model, {first.output: lambda _: known}),
            gated(self.model, rest, by_site, reference),
        ):
            # one sample goes in, and as many rows come out as the first site was given
            logits = as_logits(self.model(inputs_for(self.model, self.inputs[:1])), len(samples))
        return logits


def masked_model(
    model: nn.Module,
    sites: Sequence[Site],
    inputs: Tensor,
    reference: Mapping[str, Tensor] | None,
    *,
    batch: int = 64,
    seen: Seen | None = None,
    memory: Memory | None = None,
) -> MaskedModel:
    """Prepare a model to run on the inputs under many masks.

    Parameters
    ----------
    model, sites
        The model, in the weights it is to be checked with, and its sites.
    inputs
        ``[n, ...]``.
    reference
        By site name, the activation of an ablated unit ``[1, ...]``; None is zero ablation.
    batch
        Most rows in one forward pass.
    seen
        What the model showed of these inputs already.
    memory
        How much may be held at a time; None counts anew, with the default budget.
    """
    memory = memory or Memory.of(model, sites, inputs)
    device = _device(model, inputs)
    if reference is not None:
        reference = {name: value.to(device) for name, value in reference.items()}
    plain = MaskedModel(model, tuple(sites), inputs.to(device), reference, None, batch, memory)
    plain, prefix = _prefix(plain, seen)
    if prefix is None:
        return plain
    quick = replace(plain, prefix=prefix)
    expected = _trial(plain)
    if not agree(lambda: _trial(quick), lambda: expected):
        return plain
    cut = _cut(quick) if _one_for_all(reference) else None
    if cut is None:
        return quick
    fast = replace(quick, cut=cut)
    return fast if agree(lambda: _trial(fast), lambda: expected) else quick


def _cut(quick: MaskedModel) -> CutOut | None:
    """The model without what it does not need, as far as order and shapes tell; None if not."""
    sites, first, memory = quick.sites, quick.prefix, quick.memory
    links = links_of(quick.model, sites, quick.inputs)
    if links is None or first is None:
        return None
    reference = references(quick.reference, sites)
    try:
        return cut_out(links, sites, first, quick.sizes, reference, memory=memory)
    except (RuntimeError, ValueError, IndexError):
        # functions between the layers, which no module shows, change the shapes
        return None


def _one_for_all(reference: Mapping[str, Tensor] | None) -> bool:
    """Whether an ablated unit has the same activation for every sample."""
    return reference is None or all(len(value) == 1 for value in reference.values())


def _prefix(plain: MaskedModel, known: Seen | None) -> tuple[MaskedModel, Tensor | None]:
    """The model with its own logits, and the first site's activations on all inputs.

    Without these where they would not fit.
    """
    inputs, first = plain.inputs, plain.sites[0]
    if known is not None and known.first is None:
        return replace(plain, own=known.logits.cpu()), None
    rows = plain.memory.rows(graph=False, most=plain.batch)
    steps = range(0, len(inputs) if known is None else min(1, len(inputs)), rows)
    pieces, logits = [], []
    sizes: tuple[int, ...] = ()
    with evaluating(plain.model), torch.no_grad(), capture(plain.model, plain.sites) as seen:
        for start in steps:
            few = inputs[start : start + (rows if known is None else 1)]
            logits.append(logits_of(plain.model, few))
            activation = seen[first.name]
            sizes = tuple(seen[site.name][0].numel() for site in plain.sites)
            size = activation[0].numel() * activation.element_size() * len(inputs)
            if not plain.memory.fits(size):
                return plain, None
            pieces.append(activation)
    if not pieces:
        return plain, None
    shown = known or Seen(torch.cat(logits), torch.cat(pieces))
    prepared = replace(plain, own=shown.logits.cpu(), sizes=sizes)
    return prepared, shown.first if len(inputs) > 1 else None


def trial_agrees(masked: Masked, model: nn.Module, inputs: Tensor) -> bool:
    """Whether a faster form of a model gives what the model does under some masks.

    Parameters
    ----------
    masked
        The fast form on these inputs, zero ablation.
    model, inputs
        The model, and at least two inputs ``[n, ...]``.
    """
    memory = Memory.of(model, masked.sites, inputs)
    placed = inputs.to(_device(model, inputs))
    plain = MaskedModel(model, masked.sites, placed, None, None, 8, memory)
    rows = _trial_rows(masked.sites, len(inputs))
    return agree(lambda: masked.pair_logits(*rows), lambda: plain.pair_logits(*rows))


def _device(model: nn.Module, inputs: Tensor) -> torch.device:
    return next((p.device for p in model.parameters()), inputs.device)


def _trial(masked: MaskedModel) -> Tensor:
    """Logits under some masks, by which a faster way is compared."""
    masks, which, samples = _trial_rows(masked.sites, len(masked.inputs))
    if masked.cut is None:
        return masked.pair_logits(masks, which, samples)
    with evaluating(masked.model), torch.no_grad():
        device = masked.inputs.device
        rows = masks.to(device), which.to(device), samples.to(device)
        return masked._cut_logits(*rows)


def _trial_rows(sites: Sequence[Site], n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Open, mixed and closed masks on one or two samples.

    With a closed first site a branch around it would show, with a mixed mask a branch elsewhere.
    """
    few = torch.arange(min(2, n))
    masks = torch.ones(4, sum(site.n_units for site in sites), dtype=torch.bool)
    masks[1, : sites[0].n_units] = False
    masks[2, ::2] = False
    masks[3, 0] = False
    return masks, torch.arange(4).repeat_interleave(len(few)), few.repeat(4)
