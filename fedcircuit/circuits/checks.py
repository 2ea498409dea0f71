"""A model prepared for the checks of circuits: its masked form, its labels, its own performance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.connectivity import has_path, live_units
from fedcircuit.circuits.masking import MaskedModel, masked_model
from fedcircuit.circuits.measures import OneVsRest, one_vs_rest
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class Candidates:
    """Circuits of all classes of a model that are to be checked.

    Parameters
    ----------
    masks, found
        ``[classes, units]`` bool, and ``[classes]`` bool; where not found the mask means nothing.
    scores
        ``[classes, units]`` float, larger is more important; None where there are none.
    again
        The circuits of a second search, on other samples with another seed; None where there was
        none.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """

    masks: Tensor
    found: Tensor
    scores: Tensor | None = None
    again: Candidates | None = None

    def __post_init__(self) -> None:
        shape, found = tuple(self.masks.shape), tuple(self.found.shape)
        if len(shape) != 2 or found != shape[:1]:
            raise ValueError(
                f"masks must be [classes, units] and found [classes], got {shape} and {found}"
            )
        if self.scores is not None and self.scores.shape != self.masks.shape:
            raise ValueError(
                f"scores must be {shape} like the masks, got {tuple(self.scores.shape)}; "
                "give None where there are none"
            )


@dataclass(frozen=True)
class CheckedModel:
    """A model on the checking samples; made by `checked_model`.

    Parameters
    ----------
    masked
        The model, ready to run under many masks on the checking inputs.
    labels
        ``[n]`` int64, on the CPU.
    counts
        ``[classes]`` int64, checking samples of each class.
    live
        ``[units]`` bool, units that can carry anything.
    hits
        ``[n]`` bool, where the model itself is right.
    rest
        ``[n]`` bool, samples of the classes that the model recognises (recall of at least a half):
        what a circuit must tell its class from. A model that knows three of ten classes assigns
        the other seven to these; its circuits are not to blame for it. All samples where fewer
        than two classes are recognised.
    full, known, empty
        The model itself against all other samples, and against ``rest``; and the model with every
        unit ablated, against ``rest``: one row a class.
    """

    masked: MaskedModel
    labels: Tensor
    counts: Tensor
    live: Tensor
    hits: Tensor
    rest: Tensor
    full: OneVsRest
    known: OneVsRest
    empty: OneVsRest

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites of the model."""
        return self.masked.sites

    @property
    def recognised(self) -> Tensor:
        """Classes with a recall of at least a half, ``[classes]`` bool."""
        return self.full.recall >= 0.5  # NaN, without samples, is not

    def runs(self, masks: Tensor, samples: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Logits of mask i on ``samples[i]``, ``[k_i, classes]`` each, all in one go.

        Parameters
        ----------
        masks
            ``[rows, units]`` bool.
        samples
            Positions, ``[k_i]`` int64, for each mask.
        """
        logits = self.masked.pair_logits(masks, *paired(samples))
        return torch.split(logits, [len(part) for part in samples])

    def measured(
        self, masks: Tensor, classes: Tensor, *, negatives: int | None = None
    ) -> OneVsRest:
        """Circuit i, ``masks[i]``, at telling class ``classes[i]`` from ``rest``.

        Parameters
        ----------
        masks, classes
            ``[rows, units]`` bool, and ``[rows]`` int64.
        negatives
            Run on at most this many samples of other classes (`contrast`); None is all.
        """
        if negatives is None or negatives >= len(self.labels) or not len(masks):
            return one_vs_rest(self.masked.logits(masks), self.labels, classes, self.rest)
        samples = [contrast(self.labels, c, negatives, self.rest) for c in classes.tolist()]
        found = [
            one_vs_rest(logits[None], self.labels[chosen], classes[row : row + 1])
            for row, (chosen, logits) in enumerate(
                zip(samples, self.runs(masks, samples), strict=True)
            )
        ]
        return OneVsRest.stacked(found)

    def has_path(self, masks: Tensor) -> Tensor:
        """Whether a path leads through each circuit, ``[rows]`` bool."""
        return has_path(self.masked.model, self.sites, masks, self.masked.inputs[:1])


def checked_model(
    model: nn.Module,
    sites: Sequence[Site],
    samples: Samples,
    reference: Mapping[str, Tensor] | None,
    *,
    n_classes: int,
    batch: int = 64,
) -> CheckedModel:
    """Prepare a model for checks on the given samples.

    Parameters
    ----------
    model, sites
        The model in the weights to be checked, and its sites.
    samples
        Checking samples: not those on which the circuits were found.
    reference
        By site name, the activation of an ablated unit; None is zero ablation.
    n_classes, batch
        Number of classes; most rows in one forward pass.

    Raises
    ------
    ValueError
        If there is no sample, or the model does not give ``[n, n_classes]`` logits.
    """
    if not len(samples):
        raise ValueError("checks need at least one sample, the checking half of the probe is empty")
    masked = masked_model(model, sites, samples.inputs, reference, batch=batch)
    nothing = torch.zeros(1, sum(site.n_units for site in sites), dtype=torch.bool)
    ends = torch.cat([masked.full_logits()[None], masked.logits(nothing)])
    if ends.shape[-1] != n_classes:
        raise ValueError(
            f"the model gives {ends.shape[-1]} logits, expected {n_classes}, one for each class"
        )
    labels, classes = samples.labels.cpu(), torch.arange(n_classes)
    counts = torch.bincount(labels, minlength=n_classes)
    hits = ends[0].argmax(-1) == labels
    right = torch.bincount(labels[hits], minlength=n_classes)
    recognised = (counts > 0) & (2 * right >= counts)
    rest = recognised[labels] if int(recognised.sum()) > 1 else torch.ones_like(hits)
    full, known, empty = (
        one_vs_rest(end.expand(n_classes, -1, -1), labels, classes, others)
        for end, others in ((ends[0], None), (ends[0], rest), (ends[1], rest))
    )
    return CheckedModel(
        masked=masked,
        labels=labels,
        counts=counts,
        live=live_units(model, sites, samples.inputs[:1]),
        hits=hits,
        rest=rest,
        full=full,
        known=known,
        empty=empty,
    )


@dataclass(frozen=True)
class KnockOut:
    """What the removal of a circuit does, ``[rows]`` float64.

    Parameters
    ----------
    necessity
        Drop of the recall of the circuit's own class.
    collateral
        Mean drop of the recall of the other classes; NaN if there is none.
    """

    necessity: Tensor
    collateral: Tensor


def knock_out(subject: CheckedModel, masks: Tensor, classes: Tensor, *, negatives: int) -> KnockOut:
    """Ablate each circuit's units and see which classes suffer.

    Parameters
    ----------
    subject
        The model on the checking samples.
    masks, classes
        ``[rows, units]`` bool, and the class of each row.
    negatives
        Most samples of other classes for the collateral damage.
    """
    samples = [contrast(subject.labels, c, negatives) for c in classes.tolist()]
    drops = recall_drops(subject, ~masks, samples)
    own = torch.nn.functional.one_hot(classes, len(subject.counts)).bool()
    return KnockOut(drops[own], torch.where(own, torch.nan, drops).nanmean(-1))


def recall_drops(subject: CheckedModel, masks: Tensor, samples: Sequence[Tensor]) -> Tensor:
    """How much recall every class loses under each mask, ``[rows, classes]`` float64.

    Parameters
    ----------
    subject
        The model on the checking samples.
    masks
        ``[rows, units]`` bool, the units left in place.
    samples
        For each mask the samples it runs on; a class without any is NaN.
    """
    n_classes, (which, chosen) = len(subject.counts), paired(samples)
    labels = subject.labels[chosen]
    right = subject.masked.pair_logits(masks, which, chosen).argmax(-1) == labels
    lost = subject.hits[chosen].double() - right.double()
    groups, size = which * n_classes + labels, len(masks) * n_classes
    total = torch.bincount(groups, weights=lost, minlength=size)
    return (total / torch.bincount(groups, minlength=size)).reshape(len(masks), n_classes)


def paired(samples: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Samples of many rows one after the other: the row, and the position, of each."""
    lengths = torch.tensor([len(part) for part in samples], dtype=torch.int64)
    return torch.arange(len(samples)).repeat_interleave(lengths), torch.cat(
        [torch.zeros(0, dtype=torch.int64), *samples]
    )


def contrast(
    labels: Tensor, class_index: int, negatives: int, rest: Tensor | None = None
) -> Tensor:
    """All samples of a class, then some of the others; positions ``[k]`` int64.

    The others are at most ``negatives``, evenly spaced over the classes, so that each class keeps
    its share and a rate measured on them estimates the rate on all. ``rest [n]`` bool says which
    samples may be among the others; None is all.
    """
    by_class = labels.sort(stable=True).indices
    own = labels[by_class] == class_index
    others = by_class[~own] if rest is None else by_class[~own & rest[by_class]]
    if len(others) > negatives:
        others = others[torch.arange(negatives) * len(others) // max(negatives, 1)]
    return torch.cat([by_class[own], others])
