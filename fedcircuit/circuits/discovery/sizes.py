"""From scores to a circuit: how many of the best units are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site, site_slices
from fedcircuit.circuits.discovery.contrast import separations
from fedcircuit.circuits.discovery.protocol import Curve, Meter, Sizing, Task
from fedcircuit.circuits.masking import MaskedModel, masked_model

_MAX_STEPS = 24
_OTHERS = 2  # samples of other classes, as multiples of those of the class itself
_MARGIN = 0.15  # of faithfulness, below which a quarter of the samples says enough


def mass_rule(scores: Tensor, sites: Sequence[Site], *, share: float) -> Tensor:
    """Masks of the fewest units that hold ``share`` of each class's positive score mass.

    Parameters
    ----------
    scores
        ``[classes, units]``.
    sites
        Sites the units belong to; every site keeps at least its best unit, without which no
        path would lead through it.
    share
        In (0, 1].

    Returns
    -------
    Tensor
        ``[classes, units]`` bool; all False for a class without any positive score.
    """
    positive = scores.clamp(min=0)
    ordered, order = positive.sort(dim=1, descending=True, stable=True)
    total = ordered.sum(1, keepdim=True)
    before = ordered.cumsum(1) - ordered  # mass ahead of each unit
    kept = (before < share * total) & (ordered > 0)
    masks = torch.zeros_like(kept).scatter_(1, order, kept)
    return _one_in_each_site(masks, scores, sites) & (total > 0)


def top_units(scores: Tensor, sizes: Tensor, sites: Sequence[Site]) -> Tensor:
    """Masks of each row's best units, at least the best one of every site.

    Parameters
    ----------
    scores
        ``[rows, units]``; units without a positive score are never taken for their rank.
    sizes
        ``[rows]`` int64, how many.
    sites
        Sites the units belong to.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(scores.shape[1]).expand_as(order)
    )
    masks = (rank < sizes[:, None]) & (scores > 0)
    return _one_in_each_site(masks, scores, sites)


def _one_in_each_site(masks: Tensor, scores: Tensor, sites: Sequence[Site]) -> Tensor:
    masks = masks.clone()
    for part in site_slices(sites):
        best = scores[:, part].argmax(1, keepdim=True) + part.start
        masks.scatter_(1, best, masks.gather(1, best) | ~masks[:, part].any(1, keepdim=True))
    return masks


@dataclass(frozen=True)
class Faithful:
    """The smallest number of best units that keeps a class apart from the others.

    Faithfulness of a circuit of class c is its separation from the other classes as a share of
    the full model's, both averaged over the classes that the model recognises (recall of at least
    a half on these samples). The least size with a faithfulness of at least ``1 - loss`` is
    searched for: upwards in steps, then by interpolation between the last two.

    Parameters
    ----------
    loss
        Share of the separation that may be lost, in (0, 1).
    samples_per_class
        Samples of the class on which its circuits are run during the search, and most samples of
        any other class: of these together twice as many, or one of each class.
    tolerance
        The search ends when the bracket is narrower than this share of its upper end, or 1 unit.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    loss: float = 0.05
    samples_per_class: int = 24
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 < self.loss < 1.0:
            raise ValueError(f"loss must lie in (0, 1), got {self.loss}")
        if self.samples_per_class < 1:
            raise ValueError(f"samples_per_class must be >= 1, got {self.samples_per_class}")
        if not 0.0 <= self.tolerance < 1.0:
            raise ValueError(f"tolerance must lie in [0, 1), got {self.tolerance}")

    def __call__(
        self,
        scores: Tensor,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Sizing:
        """Masks and curves for scores ``[classes, units]``; rows without a positive one get none.

        Parameters
        ----------
        scores
            Larger is more important; NaN counts as none.
        model, sites
            The model in eval mode, and its sites.
        task
            Samples that scores may have been made on, and the activations of ablated units.
        generator, meter
            Not used; counts the images.
        """
        few = first_of_each_class(task, self.samples_per_class)
        masked = masked_model(model, sites, few.samples.inputs, few.reference, batch=512)
        search = _Search(self, masked, few.samples.labels, scores.nan_to_num(0.0))
        result = search.result()
        meter.forward += search.n_rows
        return result


def first_of_each_class(task: Task, per_class: int) -> Task:
    """The task with the first samples of every class only."""
    labels = task.samples.labels
    if per_class >= int(task.samples.counts(task.n_classes).max()):
        return task
    places = torch.cat(
        [(labels == c).nonzero().flatten()[:per_class] for c in range(task.n_classes)]
    )
    reference = task.reference
    if reference is not None:
        reference = {k: v if len(v) == 1 else v[places] for k, v in reference.items()}
    return Task(task.samples.take(places), task.n_classes, reference)


class _Search:
    """The sizes of all classes, narrowed down together: one batch of circuits in each step."""

    def __init__(self, rule: Faithful, masked: MaskedModel, labels: Tensor, scores: Tensor) -> None:
        self._rule, self._masked, self._labels, self._scores = rule, masked, labels, scores
        self.n_rows = len(labels)  # images sent forward
        self._logits = logits = masked.full_logits()
        right = (logits.argmax(-1) == labels).double()
        members = torch.nn.functional.one_hot(labels, len(scores)).double()
        known = (right @ members) / members.sum(0) >= 0.5
        self._places = members.cumsum(0) - 1  # how many of its class come before a sample
        limit = rule.samples_per_class
        self._rows = [self._samples_of(c, known, limit) for c in range(len(scores))]
        self._few = [self._samples_of(c, known, -(-limit // 4)) for c in range(len(scores))]
        self._full = torch.stack(
            [self._separation(logits[rows], rows, c) for c, rows in enumerate(self._rows)]
        )
        self._most = (scores > 0).sum(1).clamp(min=len(masked.sites))
        self._curves: list[dict[int, float]] = [{} for _ in scores]

    def _samples_of(self, c: int, known: Tensor, limit: int) -> Tensor:
        """Which samples the circuits of a class run on: its own, and some of recognised others."""
        others = known.clone()
        others[c] = False
        n_others = int(others.sum())
        each = min(limit, -(-_OTHERS * limit // max(n_others, 1)))
        place = self._places[torch.arange(len(self._labels)), self._labels]
        chosen = torch.where(
            self._labels == c, place < limit, others[self._labels] & (place < each)
        )
        return chosen.nonzero().flatten()

    def _separation(self, logits: Tensor, rows: Tensor, c: int) -> Tensor:
        """Mean separation of a class from the others, of logits ``[rows, classes]``."""
        found = separations(logits[None], self._labels[rows], torch.tensor([c]))
        return found.nanmean()  # NaN where no other class is recognised

    def result(self) -> Sizing:
        """Masks and curves of all classes."""
        some = (self._scores > 0).any(1) & (self._full > 0)
        sizes = self._most.clone()
        if bool(some.any()):
            classes = some.nonzero().flatten()
            sizes[classes] = self._searched(classes)
        masks = top_units(self._scores, sizes, self._masked.sites)
        masks &= (self._scores > 0).any(1, keepdim=True)
        return Sizing(masks, tuple(_curve(points) for points in self._curves))

    def _searched(self, classes: Tensor) -> Tensor:
        """Smallest size found to be faithful, for each of the classes."""
        least = len(self._masked.sites)
        low = torch.full((len(classes),), least - 1)
        high = self._most[classes]
        guess = torch.minimum(self._first_guess(classes).clamp(min=least), high)
        trial = (guess // 4).clamp(min=least)
        for _ in range(_MAX_STEPS):
            rows = self._open(classes, low, high).nonzero().flatten()
            if not len(rows):
                break
            passed = self._passes(classes[rows], trial[rows], trial[rows] < 0.75 * guess[rows])
            high[rows] = torch.where(passed, trial[rows], high[rows])
            low[rows] = torch.where(passed, low[rows], trial[rows])
            trial = torch.tensor(
                [
                    self._next(self._curves[c], int(lo), int(hi), int(near))
                    for c, lo, hi, near in zip(classes.tolist(), low, high, guess, strict=True)
                ]
            )
        return high

    def _open(self, classes: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Which classes' sizes are still to be narrowed down, ``[classes]`` bool."""
        wide = high - low > (self._rule.tolerance * high).clamp(min=1)
        enough = 1 - self._rule.loss / 2  # faithful without much to spare
        spare = [
            self._curves[c].get(n, 2.0)
            for c, n in zip(classes.tolist(), high.tolist(), strict=True)
        ]
        return wide & (torch.tensor(spare) > enough)

    def _passes(self, classes: Tensor, sizes: Tensor, early: Tensor) -> Tensor:
        """Whether circuits of these sizes are faithful; first on few samples where not likely."""
        wanted = 1 - self._rule.loss
        passed = torch.zeros(len(classes), dtype=torch.bool)
        some = early.nonzero().flatten()
        if len(some):
            rough = self._evaluated(classes[some], sizes[some], thin=True)
            early = early.index_put((some,), rough < wanted - _MARGIN)
        rows = (~early).nonzero().flatten()
        if len(rows):
            passed[rows] = self._evaluated(classes[rows], sizes[rows]) >= wanted
        return passed

    def _first_guess(self, classes: Tensor) -> Tensor:
        """Where the kept share of the positive score, multiplied over the sites, is enough."""
        scores = self._scores[classes].clamp(min=0)
        order = scores.argsort(dim=1, descending=True, stable=True)
        kept = torch.ones(scores.shape, dtype=torch.float64)
        for part in site_slices(self._masked.sites):
            inside = torch.zeros_like(scores)
            inside[:, part] = scores[:, part]
            share = inside.gather(1, order).double().cumsum(1)
            kept *= share / share[:, -1:].clamp(min=1e-30)
        return (kept < 1 - self._rule.loss).sum(1) + 1

    def _next(self, points: Mapping[int, float], low: int, high: int, guess: int) -> int:
        """Upwards in steps, through the guess, until a size is faithful; then in between.

        Small circuits come first: they cost least, and where the curve is not monotone the first
        faithful size is the one that is wanted.
        """
        if high not in points:
            middle = int(low * 1.6) + 1
            if low < guess <= 1.25 * middle:
                middle = guess
            elif low >= guess:
                middle = int(low * 1.1) + 1
        else:
            middle = (low + high) // 2
            if low in points and points[high] > points[low]:
                wanted = 1 - self._rule.loss
                share = (wanted - points[low]) / (points[high] - points[low])
                middle = low + round((high - low) * min(max(share, 0.1), 0.9))
        return min(max(middle, low + 1), max(high - 1, low + 1))

    def _evaluated(self, classes: Tensor, sizes: Tensor, *, thin: bool = False) -> Tensor:
        """Faithfulness of circuits of these sizes, one for each of the classes."""
        masks = top_units(self._scores[classes], sizes, self._masked.sites)
        rows = [(self._few if thin else self._rows)[c] for c in classes.tolist()]
        lengths = torch.tensor([len(part) for part in rows])
        which = torch.arange(len(rows)).repeat_interleave(lengths)
        logits = self._masked.pair_logits(masks, which, torch.cat(rows))
        self.n_rows += len(logits)
        found = []
        parts = torch.split(logits, lengths.tolist())
        for c, size, part, samples in zip(
            classes.tolist(), sizes.tolist(), parts, rows, strict=True
        ):
            full = self._separation(self._logits[samples], samples, c)
            share = self._separation(part, samples, c) / full
            self._curves[c][size] = float(share)
            found.append(share)
        return torch.stack(found)


def _curve(points: Mapping[int, float]) -> Curve | None:
    if not points:
        return None
    sizes = tuple(sorted(points))
    return Curve(sizes, tuple(points[size] for size in sizes))
