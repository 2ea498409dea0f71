"""What a planted network is: weights set by hand, so that the circuit of every class is known.

The hard cases, each of which can be combined with every other:

- shared: classes share glyph detectors, and pairs of classes a composite;
- veto: a unit lowers the logit of a class, and fires only on samples of other classes that show a
  pattern of the class as bait;
- redundant: composites and relays stand in two or three equal copies, all in the circuit;
- distractors: loud units that nobody reads, and units that move every logit alike;
- two_routes: one pattern of a class is in 70 % of its samples, not in 50 %;
- dead: units without input or output, or never active;
- cancelling: loud pairs with equal input and opposite outgoing weights;
- prior: a bias on the logit of one class.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from fedcircuit.circuits import Circuit, Site, circuit_of, class_row
from fedcircuit.samples import Samples

Density = Literal["sparse", "dense"]
Pair = tuple[str, str]  # a layer and the next: (source site or "input", target site or "head")

CASES = (
    "shared",
    "veto",
    "redundant",
    "distractors",
    "two_routes",
    "dead",
    "cancelling",
    "prior",
)
HARD = frozenset(CASES)


class Sampler(Protocol):
    """Draws labelled inputs of a planted network."""

    def __call__(self, n_per_class: int, seed: int) -> Samples:
        """``n_per_class`` inputs of every class, classes one after the other."""


@dataclass(frozen=True)
class PlantedNetwork:
    """A network built by hand, and the circuit of every class.

    A class is ``(glyph a and glyph b) or (glyph d and glyph e)``. Units of the first layer detect
    glyphs, those of the second join two of them (composites), those of a third pass composites on
    (relays), and the head reads one logit for each class. Units stand in random order.

    The truth: a unit belongs to the circuit of class c if it lies on a planted path from the
    input to the logit of c and that path changes the logit of c against the others on this input
    distribution. A veto is on such a path although it fires for other classes only. A unit that
    moves every logit alike is not, nor are two that cancel each other. Raising the logit of
    another class is that class's own affair. The small random weights of a dense network change
    no truth.

    Parameters
    ----------
    model
        The network, in eval mode.
    sites
        Its sites in order of execution.
    truth
        ``[classes, units]`` bool; units of all sites, one site after the other.
    edges
        By pair of consecutive layers, ``[classes, out, in]`` bool: planted weights on those paths.
        ``out`` and ``in`` count units, input channels, input coordinates or classes.
    draw
        Draws labelled inputs.
    class_names
        One for each class.
    cases
        The hard cases it holds.
    seed
        The seed it was built from.
    """

    model: nn.Module
    sites: tuple[Site, ...]
    truth: Tensor
    edges: Mapping[Pair, Tensor]
    draw: Sampler
    class_names: tuple[str, ...]
    cases: frozenset[str]
    seed: int

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def samples(self, n_per_class: int, seed: int) -> Samples:
        """``n_per_class`` labelled inputs of every class, classes one after the other."""
        return self.draw(n_per_class, seed)

    def circuit(self, class_index: int) -> Circuit:
        """The true circuit of a class.

        Raises
        ------
        ValueError
            If there is no such class.
        """
        return circuit_of(self.truth[class_row(class_index, self.n_classes)], self.sites)


def checked_cases(cases: Collection[str]) -> frozenset[str]:
    """The cases as a set.

    Raises
    ------
    ValueError
        If one of them is unknown.
    """
    unknown = sorted(set(cases) - HARD)
    if isinstance(cases, str) or unknown:
        raise ValueError(f"cases must be a collection of {', '.join(CASES)}; got {cases!r}")
    return frozenset(cases)
