"""What a circuit is: a subset of a model's units, alone or stacked over models and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from operator import index
from typing import ClassVar, SupportsIndex

import torch
from torch import Tensor

from fedcircuit.html import bar, block, counted, table

MOST_COLUMNS = 16  # sites or classes side by side in a notebook


@dataclass(frozen=True)
class Site:
    """A place in a model whose outputs are units.

    Parameters
    ----------
    name
        Qualified name of the layer (convolution or linear) that makes the units.
    n_units
        Number of units: output channels or neurons.
    axis
        Axis of the units in the activation tensor: 1 for ``[n, units, h, w]``, -1 for
        ``[n, units]`` and ``[n, tokens, units]``.
    output
        Qualified name of the module whose output is read and gated: the last of the chain
        layer, normalisation, nonlinearity, pooling that starts at ``name``.
    kind, called
        What it is (``conv``, ``fc``, ``attn``) and what people call it (``conv1``), as
        `fedcircuit.circuits.models.site_names` has it; empty where that is not known. Two sites are
        the same whatever they are called.
    """

    name: str
    n_units: int
    axis: int
    output: str
    kind: str = field(default="", compare=False)
    called: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """What a person calls it; the qualified name where nothing else is known."""
        return self.called or self.name


def site_slices(sites: Sequence[Site]) -> tuple[slice, ...]:
    """Slice of each site in the concatenation of all units, in the order of ``sites``."""
    slices, start = [], 0
    for site in sites:
        slices.append(slice(start, start + site.n_units))
        start += site.n_units
    return tuple(slices)


def split_by_site(units: Tensor, sites: Sequence[Site]) -> dict[str, Tensor]:
    """``[..., units]`` over all sites cut into ``[..., n_units]`` for each site's name."""
    return {
        site.name: units[..., part] for site, part in zip(sites, site_slices(sites), strict=True)
    }


@dataclass(frozen=True, eq=False)
class Masks:
    """Boolean masks by name, compared by value: what a circuit of units or of edges is made of."""

    masks: Mapping[str, Tensor]
    place: ClassVar[str] = "place"  # what is kept
    holder: ClassVar[str] = "place"  # what a name stands for
    shape: ClassVar[tuple[str, ...]] = ()  # of each mask, in words

    def __post_init__(self) -> None:
        for name, mask in self.masks.items():
            if mask.dtype != torch.bool or mask.ndim != len(self.shape):
                raise ValueError(
                    f"the mask of {self.holder} {name!r} must be bool of shape "
                    f"[{', '.join(self.shape)}], got {mask.dtype} of shape {tuple(mask.shape)}"
                )

    @property
    def sizes(self) -> dict[str, int]:
        """Number kept under each name."""
        return {name: int(mask.sum()) for name, mask in self.masks.items()}

    @property
    def size(self) -> int:
        """Number kept in all."""
        return sum(self.sizes.values())

    @property
    def n_places(self) -> int:
        """Number of places of all masks, kept or not: what the circuit is drawn from."""
        return sum(mask.numel() for mask in self.masks.values())

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Masks)
        return list(self.masks) == list(other.masks) and all(
            torch.equal(mask, other.masks[name]) for name, mask in self.masks.items()
        )

    __hash__ = None  # type: ignore[assignment]  # tensors compare by value, not by identity

    def _title(self, name: str) -> str:
        """What a person calls the place."""
        return name

    def _repr_html_(self) -> str:
        """What a notebook shows: how many places it keeps, in all and under each name."""
        head = ("layer", "module", "kept", "of", "share")
        rows = [
            (self._title(name), name, n, mask.numel(), bar(n / mask.numel() if n else 0.0))
            for (name, mask), n in zip(self.masks.items(), self.sizes.values(), strict=True)
        ]
        share = self.size / self.n_places if self.n_places else nan
        title = f"Circuit of {counted(self.size, self.place)} of {self.n_places}"
        return block(title, bar(share), table(head, rows))


@dataclass(frozen=True, eq=False)
class Circuit(Masks):
    """A subset of a model's units, as one boolean mask ``[n_units]`` for every site.

    Parameters
    ----------
    masks
        By site name.
    called
        By site name, what people call it, where that is known; it makes no difference else.

    Raises
    ------
    ValueError
        If a mask is not a one-dimensional boolean tensor.
    """

    called: Mapping[str, str] = field(default_factory=dict)
    place: ClassVar[str] = "unit"
    holder: ClassVar[str] = "site"
    shape: ClassVar[tuple[str, ...]] = ("n_units",)

    @property
    def n_units(self) -> int:
        """Number of units of all sites: the universe the circuit is drawn from."""
        return self.n_places

    def _title(self, name: str) -> str:
        return self.called.get(name, name)

    def complement(self) -> Circuit:
        """The units this circuit leaves out."""
        return Circuit({name: ~mask for name, mask in self.masks.items()}, self.called)


def circuit_of(units: Tensor, sites: Sequence[Site]) -> Circuit:
    """A circuit of ``[units]`` bool over all sites, which keep what they are called."""
    return Circuit(split_by_site(units, sites), {site.name: site.title for site in sites})


class OfClasses:
    """What knows the circuits of all classes of a model: ``[classes, units]``, where found."""

    sites: tuple[Site, ...]
    masks: Tensor
    found: Tensor

    def circuit(self, class_index: int) -> Circuit | None:
        """The circuit of a class; None where none was found.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        row = class_row(class_index, len(self.found))
        return circuit_of(self.masks[row], self.sites) if bool(self.found[row]) else None


def class_row(class_index: object, n_classes: int) -> int:
    """The index of a class.

    Raises
    ------
    ValueError
        If it is no whole number from 0 below the number of classes: -1 is no class.
    """
    if isinstance(class_index, SupportsIndex) and 0 <= index(class_index) < n_classes:
        return index(class_index)
    raise ValueError(
        f"a class is its number, one of 0..{n_classes - 1} ({counted(n_classes, 'class')}), got "
        f"{class_index!r}"
    )


@dataclass(frozen=True)
class CircuitStack:
    """The circuits of several models for several classes, in one boolean tensor.

    Parameters
    ----------
    sites
        Sites of the (common) architecture, in order of execution.
    models
        Identity of each model: ``"global"`` or a client's.
    masks
        ``[models, classes, units]`` bool; units are those of all sites, concatenated.
    found
        ``[models, classes]`` bool; where False no circuit was found, and the mask, all False,
        means nothing: it is not an empty circuit.
    """

    sites: tuple[Site, ...]
    models: tuple[str, ...]
    masks: Tensor
    found: Tensor

    def __post_init__(self) -> None:
        n_units = sum(site.n_units for site in self.sites)
        if self.masks.dtype != torch.bool or self.masks.ndim != 3:
            raise ValueError(
                "masks must be bool of shape [models, classes, units], "
                f"got {self.masks.dtype} of shape {tuple(self.masks.shape)}"
            )
        if self.masks.shape[0] != len(self.models) or self.masks.shape[2] != n_units:
            raise ValueError(
                f"masks of shape {tuple(self.masks.shape)} do not fit {len(self.models)} models "
                f"and {n_units} units"
            )
        if self.found.dtype != torch.bool or self.found.shape != self.masks.shape[:2]:
            raise ValueError(
                f"found must be bool of shape {tuple(self.masks.shape[:2])}, "
                f"got {self.found.dtype} of shape {tuple(self.found.shape)}"
            )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.masks.shape[1]

    def circuit(self, model: str, class_index: int) -> Circuit | None:
        """The circuit of one class in one model; None where none was found.

        Raises
        ------
        ValueError
            If there is no such model or class.
        """
        if model not in self.models:
            raise ValueError(f"there is no model {model!r}, there are {', '.join(self.models)}")
        row, column = self.models.index(model), class_row(class_index, self.n_classes)
        if not bool(self.found[row, column]):
            return None
        return circuit_of(self.masks[row, column], self.sites)

    def _repr_html_(self) -> str:
        """What a notebook shows: the size of every circuit, by model and class."""
        n_units, n_found = self.masks.shape[2], int(self.found.sum())
        classes = range(min(self.n_classes, MOST_COLUMNS))
        sizes, found = self.masks.sum(-1).tolist(), self.found.tolist()
        rows = [
            (model, *(sizes[i][c] if found[i][c] else "none" for c in classes))
            for i, model in enumerate(self.models)
        ]
        left = self.n_classes - len(classes)
        return block(
            f"{counted(n_found, 'circuit')} of {counted(len(self.models), 'model')} and "
            f"{counted(self.n_classes, 'class')}",
            f"Units of each, of {n_units} at {counted(len(self.sites), 'site')}"
            + (f"; {counted(left, 'class')} not shown" if left else ""),
            table(("model", *(f"class {c}" for c in classes)), rows),
        )
