"""A model while its circuits are searched for: what every step of a method is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.masking import Memory, reference_rows
from fedcircuit.circuits.models import evaluating
from fedcircuit.circuits.search.protocol import Discovery, Meter, Task, frozen
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class SearchedModel:
    """A model in eval mode with frozen parameters, and all that is needed to search it.

    Parameters
    ----------
    model, sites
        The model and its sites.
    task
        What circuits are found on.
    generator, meter
        The only source of random draws, and what counts the images.
    """

    model: nn.Module
    sites: tuple[Site, ...]
    task: Task
    generator: torch.Generator
    meter: Meter

    @property
    def parts(self) -> tuple[nn.Module, tuple[Site, ...], Task, torch.Generator, Meter]:
        """What scorers and size rules take one by one."""
        return self.model, self.sites, self.task, self.generator, self.meter

    @property
    def samples(self) -> Samples:
        """The labelled samples."""
        return self.task.samples

    @property
    def n_classes(self) -> int:
        """Number of classes of the task."""
        return self.task.n_classes

    @property
    def n_units(self) -> int:
        """Number of units of all sites."""
        return sum(site.n_units for site in self.sites)

    @property
    def memory(self) -> Memory:
        """How much the search may hold at a time."""
        return self.task.memory_of(self.model, self.sites)

    def nothing(self) -> tuple[Tensor, Tensor]:
        """Masks and scores ``[classes, units]`` of no circuit at all, to be filled: False, NaN."""
        shape = self.n_classes, self.n_units
        return torch.zeros(shape, dtype=torch.bool), torch.full(shape, torch.nan)

    def passes(self, n_rows: int, *, graph: bool) -> tuple[Tensor, ...]:
        """Positions ``0 .. n_rows - 1`` in passes as large as memory allows."""
        return torch.split(torch.arange(n_rows), self.memory.rows(graph=graph))

    def reference(self, rows: Tensor) -> Mapping[str, Tensor] | None:
        """Activations of ablated units for chosen samples, by site name; None is zero."""
        return reference_rows(self.task.reference, rows)


class SearchingMethod(ABC):
    """Base of our own discovery methods: each is a search in a model that is made ready for it."""

    @abstractmethod
    def search(self, searched: SearchedModel) -> Discovery:
        """Circuits of all classes."""

    def __call__(
        self, model: nn.Module, sites: Sequence[Site], task: Task, generator: torch.Generator
    ) -> Discovery:
        """Circuits of all classes; the model is given back as it came."""
        with searched(model, sites, task, generator) as here:
            return self.search(here)


@contextmanager
def searched(
    model: nn.Module, sites: Sequence[Site], task: Task, generator: torch.Generator
) -> Iterator[SearchedModel]:
    """The model, ready to be searched; it is given back as it came."""
    meter = Meter()
    with evaluating(model), frozen(model):
        yield SearchedModel(model, tuple(sites), task, generator, meter)
