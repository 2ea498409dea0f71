"""What an edge circuit is: for every layer, which unit reads which unit of its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedcircuit.circuits import Masks, Site, split_by_site


@dataclass(frozen=True)
class EdgeLayer:
    """A convolution or linear layer whose weights are edges ``u -> v``.

    An edge stands for all weights by which unit v reads unit u: the taps of a kernel, or, where a
    linear layer reads a flattened map ``[channels, h, w]``, the ``h * w`` weights of a channel.

    Parameters
    ----------
    name
        Qualified name of the layer.
    out_units, in_units
        Units that read, and units that are read.
    n_weights
        Weights of one edge.

    Raises
    ------
    ValueError
        If a number is not positive.
    """

    name: str
    out_units: int
    in_units: int
    n_weights: int

    def __post_init__(self) -> None:
        for field in ("out_units", "in_units", "n_weights"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"{field} of edge layer {self.name!r} must be >= 1, got {getattr(self, field)}"
                )

    @property
    def n_edges(self) -> int:
        """Number of edges, those whose weights are all zero included."""
        return self.out_units * self.in_units

    @property
    def parameter(self) -> str:
        """Qualified name of the weight."""
        return f"{self.name}.weight" if self.name else "weight"

    def per_edge(self, weight: Tensor) -> Tensor:
        """A tensor of the layer's weight shape as ``[out_units, in_units, n_weights]``."""
        return weight.reshape(self.out_units, self.in_units, self.n_weights)

    def per_weight(self, edges: Tensor, weight: Tensor) -> Tensor:
        """Values of edges ``[out_units, in_units]``, one for each weight, shaped like these."""
        each = edges.reshape(self.out_units, self.in_units, 1)
        return each.expand(-1, -1, self.n_weights).reshape(weight.shape)


def as_sites(layers: Sequence[EdgeLayer]) -> tuple[Site, ...]:
    """The layers as sites whose units are edges: what masks, overlap and controls ask for."""
    return tuple(Site(layer.name, layer.n_edges, 1, layer.name) for layer in layers)


def split_by_layer(edges: Tensor, layers: Sequence[EdgeLayer]) -> dict[str, Tensor]:
    """``[..., edges]`` over all layers cut into ``[..., out_units, in_units]`` for each layer."""
    parts = split_by_site(edges, as_sites(layers))
    return {
        layer.name: parts[layer.name].reshape(*edges.shape[:-1], layer.out_units, layer.in_units)
        for layer in layers
    }


@dataclass(frozen=True, eq=False)
class EdgeCircuit(Masks):
    """A subset of a model's edges, as one boolean mask ``[out_units, in_units]`` for every layer.

    Raises
    ------
    ValueError
        If a mask is not a two-dimensional boolean tensor.
    """

    place: ClassVar[str] = "edge"
    holder: ClassVar[str] = "edge layer"
    shape: ClassVar[tuple[str, ...]] = ("out_units", "in_units")

    @property
    def n_edges(self) -> int:
        """Number of edges of all layers: the universe the circuit is drawn from."""
        return self.n_places

    def flat(self) -> Tensor:
        """All layers in one mask, ``[edges]`` bool, in the order of the masks."""
        return torch.cat([mask.flatten() for mask in self.masks.values()])

    def complement(self, existing: EdgeCircuit | None = None) -> EdgeCircuit:
        """The edges this circuit leaves out, of those that exist; None takes all for existing.

        Raises
        ------
        ValueError
            If the layers or their numbers of units differ.
        """
        if existing is None:
            return EdgeCircuit({name: ~mask for name, mask in self.masks.items()})
        require_same_layers(self, existing)
        return EdgeCircuit({name: existing.masks[name] & ~m for name, m in self.masks.items()})


def require_same_layers(a: EdgeCircuit, b: EdgeCircuit) -> None:
    """Two edge circuits of one architecture.

    Raises
    ------
    ValueError
        If the layers or their numbers of units differ.
    """
    shape_a, shape_b = (
        {name: tuple(mask.shape) for name, mask in circuit.masks.items()} for circuit in (a, b)
    )
    if list(shape_a.items()) != list(shape_b.items()):
        raise ValueError(
            "edge circuits must have the same layers with the same numbers of units, "
            f"got {shape_a} and {shape_b}"
        )
