"""Models prepared for the checks of circuits: masked form, labels, their own performance.

Nearly always it is one model. Several of one architecture, on the same samples, are checked
together where that is faster (`fedcircuit.circuits.masking.stacked_models`): the samples are then
counted once for every model, and a row that is about class c of model m has the *task* ``m *
classes + c``. With one model the task is the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.checks.measures import MOST_NUMBERS, OneVsRest, every_class, one_vs_rest
from fedcircuit.circuits.masking import Masked, Memory, by_length, contrast, masked_model, paired
from fedcircuit.circuits.paths import live_units
from fedcircuit.logits import predicted
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
        ``[models * n]`` int64, on the CPU.
    counts
        ``[classes]`` int64, checking samples of each class.
    live
        ``[units]`` bool, units that can carry anything; ``[models, units]`` of several models.
    hits
        ``[models * n]`` bool, where the model itself is right.
    rest
        ``[models * n]`` bool, samples of the classes that the model recognises (recall of at least
        a half): what a circuit must tell its class from. A model that knows three of ten classes
        assigns the other seven to these; its circuits are not to blame for it. All samples where
        fewer than two classes are recognised.
    full, known, empty
        The model itself against all other samples, and against ``rest``; and the model with every
        unit ablated, against ``rest``: one row a task.
    not_finite
        ``[models]`` int64, samples for which the model's logits are NaN or infinite. Where there
        are any, nothing is known of the model.
    n_models
        How many models these are.
    """

    masked: Masked
    labels: Tensor
    counts: Tensor
    live: Tensor
    hits: Tensor
    rest: Tensor
    full: OneVsRest
    known: OneVsRest
    empty: OneVsRest
    not_finite: Tensor
    n_models: int = 1

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites of the model."""
        return self.masked.sites

    @property
    def recognised(self) -> Tensor:
        """Classes with a recall of at least a half, ``[tasks]`` bool."""
        return self.full.recall >= 0.5  # NaN, without samples, is not

    @property
    def n_samples(self) -> int:
        """Checking samples of each model."""
        return len(self.labels) // self.n_models

    def split(self, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Model and class of each task."""
        return tasks // len(self.counts), tasks % len(self.counts)

    def contrasts(
        self, tasks: Tensor, negatives: int | None, *, known: bool = True
    ) -> list[Tensor]:
        """The samples of each task (`contrast`): those of its class, then some of the others.

        Parameters
        ----------
        tasks
            ``[rows]`` int64.
        negatives
            Most others; None takes all samples of the model, in their order.
        known
            The others are from `rest`, else from all samples.
        """
        n = self.n_samples
        if negatives is None or negatives >= n:
            return [torch.arange(n) + owner * n for owner in self.split(tasks)[0].tolist()]
        rests, labels = self.rest.reshape(self.n_models, n), self.labels[:n]
        kinds = [bytes(rest.numpy()) for rest in rests] if known else [b""] * self.n_models
        drawn: dict[tuple[int, bytes], Tensor] = {}  # the same for most models
        samples = []
        for owner, c in zip(*(part.tolist() for part in self.split(tasks)), strict=True):
            key = c, kinds[owner]
            if key not in drawn:
                drawn[key] = contrast(labels, c, negatives, rests[owner] if known else None)
            samples.append(drawn[key] + owner * n)
        return samples

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

    def measured(self, masks: Tensor, tasks: Tensor, *, negatives: int | None = None) -> OneVsRest:
        """Circuit i, ``masks[i]``, at telling the class of ``tasks[i]`` from ``rest``.

        Parameters
        ----------
        masks, tasks
            ``[rows, units]`` bool, and ``[rows]`` int64.
        negatives
            Run on at most this many samples of other classes (`contrast`); None is all.
        """
        result = OneVsRest.undefined(len(tasks))
        if not len(tasks):
            return result
        samples = self.contrasts(tasks, negatives)
        logits, classes = self.runs(masks, samples), self.split(tasks)[1]
        longest = max(1, *(len(part) for part in samples))
        few = max(1, MOST_NUMBERS // (longest * len(self.counts)))
        for rows in (part for group in by_length(samples) for part in torch.split(group, few)):
            chosen = rows.tolist()
            places = torch.stack([samples[row] for row in chosen])
            found = one_vs_rest(
                torch.stack([logits[row] for row in chosen]),
                self.labels[places],
                classes[rows],
                self.rest[places],
            )
            result = result.replaced(rows, found)
        return result

    def has_path(self, masks: Tensor, tasks: Tensor) -> Tensor:
        """Whether a path leads through each circuit, ``[rows]`` bool."""
        return self.masked.has_path(masks, self.split(tasks)[0])


def checked_model(
    model: nn.Module,
    sites: Sequence[Site],
    samples: Samples,
    reference: Mapping[str, Tensor] | None,
    *,
    n_classes: int,
    batch: int = 64,
    memory: Memory | None = None,
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
    memory
        How much may be held at a time; None counts anew, with the default budget.

    Raises
    ------
    ValueError
        If there is no sample, or the model does not give ``[n, n_classes]`` logits.
    """
    if not len(samples):
        raise ValueError("checks need at least one sample, the checking half of the probe is empty")
    memory = memory or Memory.of(model, sites, samples.inputs)
    masked = masked_model(model, sites, samples.inputs, reference, batch=batch, memory=memory)
    live = live_units(model, sites, samples.inputs[:1])
    return prepared(masked, samples.labels.cpu(), live, n_classes=n_classes)


def prepared(
    masked: Masked, labels: Tensor, live: Tensor, *, n_classes: int, n_models: int = 1
) -> CheckedModel:
    """Models under masks with what they do by themselves; parameters as in `CheckedModel`.

    Parameters
    ----------
    labels
        ``[n]`` int64, of the samples that every model has.

    Raises
    ------
    ValueError
        If the models do not give ``n_classes`` logits.
    """
    n = len(labels)
    nothing = torch.zeros(1, sum(site.n_units for site in masked.sites), dtype=torch.bool)
    places = torch.arange(n_models * n)
    empty = masked.pair_logits(nothing, torch.zeros_like(places), places)
    ends = torch.stack([masked.full_logits(), empty]).reshape(2, n_models, n, -1)
    if ends.shape[-1] != n_classes:
        raise ValueError(
            f"the model gives {ends.shape[-1]} logits, expected {n_classes}, one for each class"
        )
    counts = torch.bincount(labels, minlength=n_classes)
    hits = predicted(ends[0]) == labels  # [models, n]
    members = torch.nn.functional.one_hot(labels, n_classes).double()
    recognised = (counts > 0) & (2 * (hits.double() @ members) >= counts)
    rest = recognised[:, labels] | (recognised.sum(1, keepdim=True) < 2)
    not_finite = (~ends[0].isfinite().all(-1)).sum(1)
    unknown = (not_finite > 0).repeat_interleave(n_classes).nonzero().flatten()
    full, known, without = (
        every_class(end, labels, others).replaced(unknown, OneVsRest.undefined(len(unknown)))
        for end, others in ((ends[0], None), (ends[0], rest), (ends[1], rest))
    )
    return CheckedModel(
        masked=masked,
        labels=labels.repeat(n_models),
        counts=counts,
        live=live,
        hits=hits.flatten(),
        rest=rest.flatten(),
        full=full,
        known=known,
        empty=without,
        not_finite=not_finite,
        n_models=n_models,
    )
