"""One model under many masks: every circuit is a row of gates, and rows of many circuits share
a batch.

Three things make this fast. Everything before the output of the first site is the same under every
mask, so it is computed once; convolutions run in the channels-last layout where the model can take
it (measured on a CPU with the small CNN: two to five times faster together); and where layers
simply follow one another, a mask that many samples share runs without its ablated units
(`fedcircuit.circuits.compact`). Each is compared with the plain way before it is used.
Memory is bounded by the number of rows in a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedcircuit.circuits.ablation import reference_rows
from fedcircuit.circuits.circuit import Site, split_by_site
from fedcircuit.circuits.compact import Chain, chain_of, kept_units, references
from fedcircuit.circuits.sites import capture, evaluating, gate, gated, transformed

_PREFIX_BYTES = 2**28  # activations of the first site are kept up to this size
_LEAST_SHARED = 8  # rows of one mask from which it pays to cut its network out


def fast_copy(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy of the model, in channels-last layout if it gives the same outputs there.

    Parameters
    ----------
    model
        The model; it is left as it is.
    example
        One or more inputs, ``[n, ...]``; the model runs on the first two.
    """
    plain, fast = copy.deepcopy(model), copy.deepcopy(model)
    for module in fast.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    with evaluating(plain), evaluating(fast), torch.no_grad():
        same = _agree(lambda: fast(example[:2]), lambda: plain(example[:2]))
    return fast if same else plain


def _agree(trial: Callable[[], Tensor], known: Callable[[], Tensor]) -> bool:
    """Whether a faster way to run a user's module gives what the plain way gives."""
    expected = known()
    try:
        found = trial()
    except (RuntimeError, ValueError, IndexError):
        # e.g. a .view() that the layout forbids, or a batch size read from the input
        return False
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


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
        Most rows (one mask on one sample each) in one forward pass.
    own
        Logits of the model itself ``[n, classes]``, where they are known.
    chain
        The model as layers that follow one another; None where it is none.
    sums
        What the layer behind the first site makes of all its units, bias included, before any
        nonlinearity: ``[n, units, ...]``. A circuit that lacks few of the first site's units is
        that less their part. None without a chain, or where it would not fit.
    """

    model: nn.Module
    sites: tuple[Site, ...]
    inputs: Tensor
    reference: Mapping[str, Tensor] | None
    prefix: Tensor | None
    batch: int
    own: Tensor | None = None
    chain: Chain | None = None
    sums: Tensor | None = None

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
                return torch.zeros(0, self.model(self.inputs[:1]).shape[-1])
        with evaluating(self.model), torch.no_grad():
            if self.chain is not None and len(which) >= _LEAST_SHARED * len(torch.unique(which)):
                return self._cut_out(masks, which, samples).cpu()
            rows = zip(
                torch.split(which, self.batch), torch.split(samples, self.batch), strict=True
            )
            return torch.cat([self._forward(masks[mask], sample) for mask, sample in rows]).cpu()

    def full_logits(self) -> Tensor:
        """Logits of the model itself, ``[n, classes]``."""
        if self.own is not None:
            return self.own
        return self.logits(torch.ones(1, sum(s.n_units for s in self.sites), dtype=torch.bool))[0]

    def _cut_out(self, masks: Tensor, which: Tensor, samples: Tensor) -> Tensor:
        """Logits of the rows, mask by mask, each as the small network that it is."""
        assert self.chain is not None
        assert self.prefix is not None
        reference = references(self.reference, self.sites)
        order = which.argsort(stable=True)
        pieces = []
        for rows in torch.split(order, which.bincount(minlength=len(masks)).tolist()):
            if not len(rows):
                continue
            kept = kept_units(masks[which[rows[0]]], self.sites)
            for part in torch.split(samples[rows], self.batch):
                pieces.append(self._small(part, kept, reference))
        logits = torch.cat(pieces)
        return torch.empty_like(logits).index_copy_(0, order, logits)

    def _small(
        self, samples: Tensor, kept: Sequence[Tensor], reference: Sequence[Tensor] | None
    ) -> Tensor:
        """Logits of one circuit on some samples; from `sums` where that is less work."""
        assert self.chain is not None
        assert self.prefix is not None
        link, *rest = self.chain.links
        n_out, n_in = link.weight.shape[:2]
        lost = torch.ones(n_in, dtype=torch.bool, device=samples.device)
        lost[kept[0]] = False
        without = lost.nonzero().flatten()
        n_read = len(kept[1]) if rest else n_out
        if self.sums is None or len(without) * n_out >= len(kept[0]) * n_read:
            return self.chain.logits(_picked(self.prefix, samples), kept, reference)
        # with nothing lost one unit is taken away times zero: no tensor is ever empty
        some = without if len(without) else without.new_zeros(1)
        change = _picked(self.prefix, samples, some)
        if reference is not None:
            change = change - reference[0][:, some]
        weight = link.weight[:, some] * (-1.0 if len(without) else 0.0)
        every = torch.arange(n_out, device=samples.device)
        value = link.apply(change, weight, _picked(self.sums, samples), every)
        if not rest:
            return value
        return Chain(tuple(rest)).logits(value, kept[1:], reference and reference[1:])

    def _forward(self, gates: Tensor, samples: Tensor) -> Tensor:
        by_site = split_by_site(gates, self.sites)
        reference = reference_rows(self.reference, samples)
        logits: Tensor
        if self.prefix is None:
            with gated(self.model, self.sites, by_site, reference):
                logits = self.model(self.inputs[samples])
            return logits
        first, rest = self.sites[0], self.sites[1:]
        mean = None if reference is None else reference[first.name]
        known = gate(self.prefix[samples], by_site[first.name], first.axis, mean)
        with (
            # one sample goes in; at the first site the whole batch takes its place
            transformed(self.model, {first.output: lambda _: known}),
            gated(self.model, rest, by_site, reference),
        ):
            logits = self.model(self.inputs[:1])
        return logits


def _picked(values: Tensor, samples: Tensor, units: Tensor | None = None) -> Tensor:
    """Some samples, and some of the units, of ``[n, units, ...]``; maps in channels-last layout."""
    inner = values.permute(0, 2, 3, 1) if values.ndim == 4 else values
    chosen = inner.index_select(0, samples)
    if units is not None:
        chosen = chosen.index_select(-1, units)
    return chosen.permute(0, 3, 1, 2) if values.ndim == 4 else chosen


def masked_model(
    model: nn.Module,
    sites: Sequence[Site],
    inputs: Tensor,
    reference: Mapping[str, Tensor] | None,
    *,
    batch: int = 64,
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
        Most rows in one forward pass: bounds the memory.
    """
    device = next((p.device for p in model.parameters()), inputs.device)
    if reference is not None:
        reference = {name: value.to(device) for name, value in reference.items()}
    plain = MaskedModel(model, tuple(sites), inputs.to(device), reference, None, batch)
    prefix, own = _prefix(plain)
    plain = replace(plain, own=own)
    if prefix is None:
        return plain
    quick = replace(plain, prefix=prefix)
    expected = _trial(plain)
    if not _agree(lambda: _trial(quick), lambda: expected):
        return plain
    chain = chain_of(model, sites, plain.inputs) if _one_for_all(reference) else None
    if chain is None:
        return quick
    cut = replace(quick, chain=chain, sums=_sums(chain, prefix))
    return cut if _agree(lambda: _trial(cut), lambda: expected) else quick


def _sums(chain: Chain, prefix: Tensor) -> Tensor | None:
    """What the layer behind the first site makes of all its units; None where it would not fit."""
    link = chain.links[0]
    every = torch.arange(link.weight.shape[0], device=prefix.device)
    with torch.no_grad():
        one = link.constant(prefix[:1], link.weight, every)
        if one.numel() * one.element_size() * len(prefix) > _PREFIX_BYTES:
            return None
        return link.constant(prefix, link.weight, every)


def _one_for_all(reference: Mapping[str, Tensor] | None) -> bool:
    """Whether an ablated unit has the same activation for every sample."""
    return reference is None or all(len(value) == 1 for value in reference.values())


def _prefix(plain: MaskedModel) -> tuple[Tensor | None, Tensor | None]:
    """Activations of the first site on all inputs, None where they would not fit; and logits."""
    inputs, first = plain.inputs, plain.sites[0]
    pieces, logits = [], []
    with evaluating(plain.model), torch.no_grad(), capture(plain.model, [first]) as seen:
        for start in range(0, len(inputs), plain.batch):
            logits.append(plain.model(inputs[start : start + plain.batch]))
            activation = seen[first.name]
            if activation[0].numel() * activation.element_size() * len(inputs) > _PREFIX_BYTES:
                return None, None
            pieces.append(activation)
    if not pieces:
        return None, None
    return torch.cat(pieces) if len(inputs) > 1 else None, torch.cat(logits).cpu()


def _trial(masked: MaskedModel) -> Tensor:
    """Logits under open, mixed and closed masks, by which a faster way is compared.

    With a closed first site a branch around it would show, with a mixed mask a branch elsewhere.
    """
    few = torch.arange(min(2, len(masked.inputs)))
    masks = torch.ones(4, sum(site.n_units for site in masked.sites), dtype=torch.bool)
    masks[1, : masked.sites[0].n_units] = False
    masks[2, ::2] = False
    masks[3, 0] = False
    which, samples = torch.arange(4).repeat_interleave(len(few)), few.repeat(4)
    if masked.chain is None:
        return masked.pair_logits(masks, which, samples)
    with evaluating(masked.model), torch.no_grad():
        device = masked.inputs.device
        return masked._cut_out(masks.to(device), which.to(device), samples.to(device)).cpu()
