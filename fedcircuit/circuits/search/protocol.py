"""What every discovery method takes and gives: circuits of all classes of one model at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fedcircuit.circuits import MOST_COLUMNS, OfClasses, Site, site_slices
from fedcircuit.circuits.masking import Memory, Seen, reference_rows
from fedcircuit.html import Html, bar, block, counted, table
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class Task:
    """What circuits are found on.

    Parameters
    ----------
    samples, n_classes
        Labelled samples, and the number of classes.
    reference
        Activations of ablated units by site name, ``[1, ...]`` or ``[n, ...]``; None is zero.
    seen
        What the model showed of these samples already, which saves a pass; None if nothing.
    memory
        How much may be held at a time; None counts when it is asked for, with the default budget.
    """

    samples: Samples
    n_classes: int
    reference: Mapping[str, Tensor] | None
    seen: Seen | None = None
    memory: Memory | None = None

    def memory_of(self, model: nn.Module, sites: Sequence[Site]) -> Memory:
        """How much the model may hold at a time on these samples."""
        return self.memory or Memory.of(model, sites, self.samples.inputs)

    def take(self, places: Tensor) -> Task:
        """The task with samples at chosen places alone; itself where these are all, in order."""
        if torch.equal(places, torch.arange(len(self.samples))):
            return self
        reference = reference_rows(self.reference, places)
        seen = None if self.seen is None else self.seen.rows(places)
        return Task(self.samples.take(places), self.n_classes, reference, seen, self.memory)


@dataclass(frozen=True)
class Cost:
    """Images sent forward and backward through the network, and processor seconds."""

    forward_images: int
    backward_images: int
    seconds: float


@dataclass(frozen=True)
class Curve:
    """What the best units of one class do, at the sizes that were tried.

    Parameters
    ----------
    sizes
        Numbers of units, ascending.
    faithfulness
        One for each size; 0 is the empty circuit, 1 the full model; neither is a bound.
    fpr
        One for each size: share of samples of other classes assigned to the class. Of sizes far
        below the one that was chosen both are measured on few samples.

    Raises
    ------
    ValueError
        If the lengths differ or the sizes do not ascend.
    """

    sizes: tuple[int, ...]
    faithfulness: tuple[float, ...]
    fpr: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.sizes) == len(self.faithfulness) == len(self.fpr):
            raise ValueError(
                f"a curve needs one faithfulness and one fpr for each size, got {len(self.sizes)} "
                f"sizes and {len(self.faithfulness)} and {len(self.fpr)} values"
            )
        if any(b <= a for a, b in pairwise(self.sizes)):
            raise ValueError(f"the sizes of a curve must ascend, got {self.sizes}")


@dataclass(frozen=True)
class Sizing:
    """Circuits that a size rule made of scores.

    Parameters
    ----------
    masks
        ``[classes, units]`` bool; all False where no circuit was made.
    curves
        One for each class: the sizes tried; None where none were.
    """

    masks: Tensor
    curves: tuple[Curve | None, ...]


@dataclass(frozen=True)
class Discovery(OfClasses):
    """Circuits of every class of one model.

    Parameters
    ----------
    sites
        Sites of the model, in order of execution.
    masks
        ``[classes, units]`` bool.
    found
        ``[classes]`` bool; where False the mask is all False and means nothing.
    scores
        ``[classes, units]`` float, larger is more important; NaN where the method has none.
    reasons
        One for each class: why no circuit was found, empty where one was.
    cost
        What it took.
    converged
        One for each class: did an optimisation stand still; None for methods without one.
    curves
        One for each class: faithfulness at the sizes tried, None where none were; empty if the
        method keeps none.
    """

    sites: tuple[Site, ...]
    masks: Tensor
    found: Tensor
    scores: Tensor
    reasons: tuple[str, ...]
    cost: Cost
    converged: tuple[bool | None, ...]
    curves: tuple[Curve | None, ...] = ()

    def _repr_html_(self) -> str:
        """What a notebook shows: the size of every class's circuit, and why there is none."""
        n_classes, n_units = self.masks.shape
        shown = self.sites if len(self.sites) <= MOST_COLUMNS else ()
        parts = site_slices(shown)
        rows = []
        for c in range(n_classes):
            if not bool(self.found[c]):
                absent: list[object] = [""] * len(parts)
                rows.append([c, "none", *absent, self.reasons[c]])
                continue
            size = int(self.masks[c].sum())
            within = [int(self.masks[c, part].sum()) for part in parts]
            rows.append([c, Html(f"{size} {bar(size / n_units)}"), *within, ""])
        sites = [f"{site.title} (of {site.n_units})" for site in shown]
        return block(
            f"{counted(int(self.found.sum()), 'circuit')} found for {counted(n_classes, 'class')}",
            f"{n_units} units at {counted(len(self.sites), 'site')}, "
            f"{self.cost.seconds:.1f} processor seconds; found is not yet checked",
            table(("class", "units", *sites, "why none"), rows),
        )


class DiscoveryMethod(Protocol):
    """Finds the circuits of all classes of a model.

    The search for one class never touches that for another: random numbers of a class come from
    a stream of its own. Samples of other classes matter only as negatives, and only for methods
    that contrast.
    """

    @property
    def name(self) -> str:
        """Name in configurations and records."""
        ...

    def __call__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
    ) -> Discovery:
        """Circuits of all classes; the model is given back as it came."""
        ...


class Meter:
    """Counts images while a method runs."""

    def __init__(self) -> None:
        self.forward = 0
        self.backward = 0
        self._start = time.process_time()

    def cost(self) -> Cost:
        """The cost so far."""
        return Cost(self.forward, self.backward, time.process_time() - self._start)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No gradients for the model's parameters, as it was before afterwards."""
    wanted = [(p, p.requires_grad) for p in model.parameters()]
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def class_stream(generator: torch.Generator, class_index: int) -> torch.Generator:
    """Random numbers of one class: they depend on the generator's seed and the class alone.

    Seeds of neighbouring classes and neighbouring generators are mixed, not added: class 1 of
    seed 0 and class 0 of seed 1 are unrelated.
    """
    mixed = np.random.SeedSequence([generator.initial_seed() % 2**64, class_index])
    return torch.Generator().manual_seed(int(mixed.generate_state(1, np.uint64)[0] >> 1))


def absent_reasons(counts: Tensor) -> tuple[str, ...]:
    """A reason for every class that cannot be contrasted, empty for the others."""
    present = int((counts > 0).sum())
    return tuple(
        "no sample of the class"
        if count == 0
        else ("no sample of any other class" if present < 2 else "")
        for count in counts.tolist()
    )


def nothing_found(sites: Sequence[Site], n_classes: int, reason: str) -> Discovery:
    """No circuit of any class, for one reason."""
    n_units = sum(site.n_units for site in sites)
    return Discovery(
        tuple(sites),
        torch.zeros(n_classes, n_units, dtype=torch.bool),
        torch.zeros(n_classes, dtype=torch.bool),
        torch.full((n_classes, n_units), torch.nan),
        (reason,) * n_classes,
        Cost(0, 0, 0.0),
        (None,) * n_classes,
    )
