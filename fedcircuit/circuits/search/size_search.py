"""The search for the smallest circuits that pass: all classes step by step together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from fedcircuit.circuits import site_slices
from fedcircuit.circuits.masking import Masked, by_length, paired
from fedcircuit.circuits.search.contrast import separations
from fedcircuit.circuits.search.protocol import Curve
from fedcircuit.circuits.search.top_units import top_units
from fedcircuit.logits import predicted

_MAX_STEPS = 24
_OTHERS = 2  # samples of other classes, as multiples of those of the class itself
_MARGIN = 0.15  # of faithfulness, below which a quarter of the samples says enough


@dataclass(frozen=True)
class Limits:
    """What a circuit must reach, and how closely its size is narrowed down.

    Parameters
    ----------
    faithfulness, fpr
        At least, and at most.
    tolerance
        Share of the upper end of a bracket that is narrow enough.
    """

    faithfulness: float
    fpr: float
    tolerance: float


@dataclass(frozen=True)
class Point:
    """A size that was tried: faithfulness, and the share of other samples given to the class."""

    faithfulness: float
    fpr: float


class Trials:
    """Runs the best units of each class on samples of the class and of others.

    Of several models on the same samples each class of each is searched for by itself: class c of
    model m is task ``m * classes + c``.

    Parameters
    ----------
    masked
        The model, or the models, on the samples of the search.
    labels
        ``[n]`` int64, of these samples.
    scores
        ``[tasks, units]``, without NaN.
    samples_per_class
        See `fedcircuit.circuits.search.Faithful`.
    """

    def __init__(
        self, masked: Masked, labels: Tensor, scores: Tensor, samples_per_class: int
    ) -> None:
        self.masked, self.scores = masked, scores
        full = masked.full_logits()
        n_models = len(full) // len(labels)
        self.n_rows = len(full)  # images sent forward
        self._n_classes = len(scores) // n_models
        self._labels = labels.repeat(n_models)
        right = (predicted(full) == self._labels).double().reshape(n_models, -1)
        members = functional.one_hot(labels, self._n_classes).double()
        known = (right @ members) / members.sum(0) >= 0.5  # [models, classes]
        places = (members.cumsum(0) - 1)[torch.arange(len(labels)), labels]  # in its class
        few = -(-samples_per_class // 4)
        self._rows = self._samples(known, places, samples_per_class)
        self._few = self._samples(known, places, few)
        every = range(len(scores))
        self._separations = [  # of the models themselves
            self._points(every, rows, full[torch.cat(rows)])[0] for rows in (self._rows, self._few)
        ]
        self.usable = (self._separations[0] > 0).tolist()  # NaN is not

    def _samples(self, known: Tensor, places: Tensor, limit: int) -> list[Tensor]:
        """For each task the first samples of its class, and of the others that its model knows."""
        n, labels = len(places), self._labels[: len(places)]
        chosen: dict[tuple[int, tuple[bool, ...]], Tensor] = {}  # the same for most models
        result = []
        for model, others in enumerate(known.tolist()):
            for c in range(self._n_classes):
                key = c, (*others[:c], False, *others[c + 1 :])
                if key not in chosen:
                    each = min(limit, -(-_OTHERS * limit // max(sum(key[1]), 1)))
                    taken = torch.tensor(key[1])[labels] & (places < each)
                    chosen[key] = torch.where(labels == c, places < limit, taken).nonzero()[:, 0]
                result.append(chosen[key] + model * n)
        return result

    def run(self, tasks: Sequence[int], sizes: Sequence[int], *, thin: bool) -> list[Point]:
        """One circuit for each task; ``thin`` takes a quarter of the samples."""
        rows = [(self._few if thin else self._rows)[task] for task in tasks]
        masks = top_units(self.scores[list(tasks)], torch.tensor(sizes), self.masked.sites)
        logits = self.masked.pair_logits(masks, *paired(rows))
        self.n_rows += len(logits)
        separation, fpr = self._points(tasks, rows, logits)
        share = separation / self._separations[thin][list(tasks)]
        return [Point(*pair) for pair in zip(share.tolist(), fpr.tolist(), strict=True)]

    def _points(
        self, tasks: Sequence[int], rows: Sequence[Tensor], logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean separation from the others, and FPR, of the rows' logits one after the other."""
        lengths = torch.tensor([len(part) for part in rows])
        ends = lengths.cumsum(0)
        separation = torch.full((len(rows),), torch.nan, dtype=torch.float64)
        fpr = torch.full((len(rows),), torch.nan)
        for members in by_length(rows):  # nearly always the same for all
            length = int(lengths[members[0]])
            places = (ends[members] - length)[:, None] + torch.arange(length)
            chosen = members.tolist()
            index = torch.tensor([tasks[i] % self._n_classes for i in chosen])
            labels = self._labels[torch.stack([rows[i] for i in chosen])]
            part = logits[places]
            others = labels != index[:, None]
            taken = (predicted(part) == index[:, None]) & others
            fpr[members] = taken.sum(1) / others.sum(1)
            # NaN where there is no other
            separation[members] = separations(part, labels, index).nanmean(1)
        return separation, fpr


@dataclass
class Bracket:
    """What is known of the size of one class: more than ``low``, at most ``high``."""

    c: int
    low: int
    high: int
    guess: int
    points: dict[int, Point] = field(default_factory=dict)

    def curve(self) -> Curve | None:
        """The sizes tried."""
        sizes = tuple(sorted(self.points))
        if not sizes:
            return None
        known = [self.points[size] for size in sizes]
        return Curve(sizes, tuple(p.faithfulness for p in known), tuple(p.fpr for p in known))


def smallest(trials: Trials, classes: Sequence[int], limits: Limits) -> list[Bracket]:
    """The smallest sizes that reach the limits, as the upper ends of the brackets.

    Faithfulness comes first. Where the smallest faithful circuit is assigned too many samples of
    other classes, a larger one is looked for; if not even all units with a positive score mend
    that, the smallest faithful circuit remains.
    """
    least = len(trials.masked.sites)
    most = (trials.scores > 0).sum(1).clamp(min=least).tolist()
    guesses = _first_guess(trials, limits).clamp(min=least).tolist()
    brackets = [Bracket(c, least - 1, most[c], min(guesses[c], most[c])) for c in classes]
    _until_faithful(trials, brackets, limits)
    unspecific = [b for b in brackets if b.high in b.points and b.points[b.high].fpr > limits.fpr]
    _until_specific(trials, unspecific, [most[b.c] for b in unspecific], limits)
    return brackets


def _until_faithful(trials: Trials, brackets: Sequence[Bracket], limits: Limits) -> None:
    trial = {b.c: max(b.guess // 4, b.low + 1) for b in brackets}
    for _ in range(_MAX_STEPS):
        pending = [b for b in brackets if _is_open(b, limits)]
        if not pending:
            return
        early = [b for b in pending if trial[b.c] < 0.75 * b.guess]
        _try(trials, early, trial, thin=True)
        wanted = limits.faithfulness
        hopeless = {b.c for b in early if b.points[trial[b.c]].faithfulness < wanted - _MARGIN}
        _try(trials, [b for b in pending if b.c not in hopeless], trial, thin=False)
        for b in pending:
            size = trial[b.c]
            if b.points[size].faithfulness >= wanted:  # never where it was hopeless
                b.high = size
            else:
                b.low = size
            trial[b.c] = _next(b, limits)


def _until_specific(
    trials: Trials, brackets: Sequence[Bracket], most: Sequence[int], limits: Limits
) -> None:
    largest = {b.c: size for b, size in zip(brackets, most, strict=True)}
    _try(trials, [b for b in brackets if b.high < largest[b.c]], largest, thin=False)
    pending = [
        b for b in brackets if b.high < largest[b.c] and b.points[largest[b.c]].fpr <= limits.fpr
    ]
    for b in pending:
        b.low, b.high = b.high, largest[b.c]
    for _ in range(_MAX_STEPS):
        pending = [b for b in pending if b.high - b.low > max(1, 2 * limits.tolerance * b.high)]
        trial = {
            b.c: _between(b.low, b.high, b.points[b.low].fpr, limits.fpr, 0.0) for b in pending
        }
        _try(trials, pending, trial, thin=False)
        for b in pending:
            point = b.points[trial[b.c]]
            if point.fpr <= limits.fpr and point.faithfulness >= limits.faithfulness:
                b.high = trial[b.c]
            else:
                b.low = trial[b.c]


def _try(trials: Trials, brackets: Sequence[Bracket], sizes: dict[int, int], *, thin: bool) -> None:
    if not brackets:
        return
    chosen = [b.c for b in brackets]
    found = trials.run(chosen, [sizes[c] for c in chosen], thin=thin)
    for b, point in zip(brackets, found, strict=True):
        b.points[sizes[b.c]] = point


def _is_open(b: Bracket, limits: Limits) -> bool:
    """Whether the bracket is wide, and its upper end faithful with more than a little to spare."""
    if b.high - b.low <= max(1, limits.tolerance * b.high):
        return False
    spare = (1 - limits.faithfulness) / 2
    return b.high not in b.points or b.points[b.high].faithfulness > limits.faithfulness + spare


def _next(b: Bracket, limits: Limits) -> int:
    """Upwards in steps, through the guess, until a size is faithful; then in between.

    Small circuits come first: they cost least, and where the curve is not monotone the first
    faithful size is the one that is wanted.
    """
    if b.high in b.points:
        low = b.points[b.low].faithfulness if b.low in b.points else 0.0
        return _between(b.low, b.high, low, limits.faithfulness, b.points[b.high].faithfulness)
    size = int(b.low * 1.6) + 1
    if b.low < b.guess <= 1.25 * size:
        size = b.guess
    elif b.low >= b.guess:
        size = int(b.low * 1.1) + 1
    return _inside(b.low, b.high, size)


def _between(low: int, high: int, at_low: float, wanted: float, at_high: float) -> int:
    """Where a line between both ends is as wanted, but not too near to one of them."""
    share = 0.5 if at_high == at_low else (wanted - at_low) / (at_high - at_low)
    return _inside(low, high, low + round((high - low) * min(max(share, 0.1), 0.9)))


def _inside(low: int, high: int, size: int) -> int:
    return min(max(size, low + 1), max(high - 1, low + 1))


def _first_guess(trials: Trials, limits: Limits) -> Tensor:
    """Where the kept share of the positive score, multiplied over the sites, is enough."""
    scores = trials.scores.clamp(min=0)
    order = scores.argsort(dim=1, descending=True, stable=True)
    kept = torch.ones(scores.shape, dtype=torch.float64)
    for part in site_slices(trials.masked.sites):
        inside = torch.zeros_like(scores)
        inside[:, part] = scores[:, part]
        share = inside.gather(1, order).double().cumsum(1)
        kept *= share / share[:, -1:].clamp(min=1e-30)
    return (kept < limits.faithfulness).sum(1) + 1
