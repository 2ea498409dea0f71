"""One budget in bytes for the search for circuits and for their checks.

What one sample takes on its way through a model is counted once, on one sample; how many samples
share a forward or a backward pass, and what is kept between passes, follows from the budget. The
model, the probe, and what is found (scores and masks, ``classes x units``) come on top of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fedcircuit.circuits import Site
from fedcircuit.circuits.models import evaluating
from fedcircuit.circuits.sites import site_graph

DEFAULT_BYTES = 2**29
MOST_ROWS = 500  # samples of one pass where memory allows more: no faster beyond


class _Counted(TorchFunctionMode):
    """Counts the bytes of all tensors that functions give or a graph keeps, none of them twice.

    A ``TorchDispatchMode`` would see the same, but imports torch's compiler, which takes longer
    than a small model is searched.
    """

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self._kept: list[Tensor] = list(known)  # alive, so that no address is used twice
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.total, self.largest = 0, 0

    def __torch_function__(
        self,
        func: object,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """The function itself."""
        result = func(*args, **(kwargs or {}))  # type: ignore[operator]
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self.count(value)
        return result

    def count(self, value: Tensor) -> Tensor:
        """The tensor, counted."""
        place = value.untyped_storage().data_ptr()
        if value.numel() and place not in self._seen:
            self._seen.add(place)
            self._kept.append(value.detach())
            size = value.untyped_storage().nbytes()
            self.total, self.largest = self.total + size, max(self.largest, size)
        return value


@dataclass(frozen=True)
class Memory:
    """A budget, and what one sample takes of it.

    Parameters
    ----------
    budget
        Bytes for all that the search or a check holds at a time beside model, probe and results.
    made
        Bytes of all that one sample's forward pass makes: what a graph keeps.
    sites
        Bytes of one sample's activations of all sites.
    largest
        Bytes of the largest of them.
    n_units
        Units of all sites: a row of gates or effects is as long.

    Raises
    ------
    ValueError
        If the budget is not positive.
    """

    budget: int
    made: int
    sites: int
    largest: int
    n_units: int

    def __post_init__(self) -> None:
        require_budget(self.budget)

    @classmethod
    def of(
        cls, model: nn.Module, sites: Sequence[Site], inputs: Tensor, budget: int = DEFAULT_BYTES
    ) -> Memory:
        """Counted on the first of the inputs ``[n, ...]``; the model runs once."""
        require_budget(budget)
        known = [*model.parameters(), *model.buffers(), inputs]
        counted = _Counted(known)
        with (
            evaluating(model),
            torch.random.fork_rng(devices=[]),
            torch.autograd.graph.saved_tensors_hooks(counted.count, lambda kept: kept),
            counted,
        ):
            _, seen = site_graph(model, sites, inputs[:1])
        held = sum(value.untyped_storage().nbytes() for value in seen.values())
        units = sum(site.n_units for site in sites)
        return cls(budget, counted.total, held, counted.largest, units)

    def rows(self, *, graph: bool, most: int = MOST_ROWS) -> int:
        """How many samples may share a pass, at least 1.

        Parameters
        ----------
        graph
            Whether the pass is differentiated.
        most
            Not more than this.
        """
        # besides what is kept: gradients and their products of all sites, working copies of the
        # largest, and rows of gates or effects
        row = 4 * self.largest + 16 * self.n_units
        row += self.made + 3 * self.sites if graph else 2 * self.sites
        return max(1, min(most, self.budget // 2 // max(row, 1)))

    def fits(self, size: int) -> bool:
        """Whether so many bytes may be kept beside the passes: an eighth of the budget."""
        return size <= self.budget // 8

    def held(self, per_row: int, *, most: int) -> int:
        """How many rows of a table, of so many bytes each, may be held at a time; at least 1."""
        return max(1, min(most, self.budget // 8 // max(per_row, 1)))


def require_budget(budget: int) -> None:
    """Refuse a budget that is none.

    Raises
    ------
    ValueError
        If it is below 1 byte.
    """
    if budget < 1:
        raise ValueError(f"memory_bytes must be >= 1, got {budget}; 2**29 is 512 MiB")
