"""A federation of planted clients, of whose average it is known what became of every class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.planted.building import Medium, SceneSampler
from fedcircuit.circuits.planted.client_plans import CarriedPlan, Fate, carried_plan
from fedcircuit.circuits.planted.cnn import IMAGES
from fedcircuit.circuits.planted.layout import Order, true_units, written
from fedcircuit.circuits.planted.mlp import VECTORS
from fedcircuit.circuits.planted.network import Sampler
from fedcircuit.circuits.planted.plan import Patterns, draw_patterns
from fedcircuit.circuits.sites import find_sites
from fedcircuit.circuits.verdicts import Verdict
from fedcircuit.samples import Samples

Weights = dict[str, NDArray[np.generic]]
FALLBACK = 0.25  # logit of class 0, to which all goes that nothing else speaks for


class Architecture(StrEnum):
    """What the clients are."""

    CNN = "cnn"
    MLP = "mlp"


@dataclass(frozen=True)
class PlantedFederation:
    """Clients built by hand, their average, and the verdict on every class of every client.

    Parameters
    ----------
    model
        The architecture; its weights are those of the average.
    sites
        Its sites.
    client_weights
        By client, the weights by name.
    shares
        By client, its weight in the average; they sum to 1.
    global_weights
        The average.
    expected
        By client, the verdict on each class; None where the client does not know the class.
    fates
        What was planted for each class.
    truth
        By client, its true circuits ``[classes, units]`` bool; no unit where it does not know the
        class.
    global_truth
        ``[classes, units]`` bool, those of the average; no unit where the class has collapsed.
    draw
        Draws labelled inputs.
    class_names
        One for each class.
    """

    model: nn.Module
    sites: tuple[Site, ...]
    client_weights: Mapping[str, Weights]
    shares: Mapping[str, float]
    global_weights: Weights
    expected: Mapping[str, tuple[Verdict | None, ...]]
    fates: tuple[Fate, ...]
    truth: Mapping[str, Tensor]
    global_truth: Tensor
    draw: Sampler
    class_names: tuple[str, ...]

    def samples(self, n_per_class: int, seed: int) -> Samples:
        """``n_per_class`` labelled inputs of every class, classes one after the other."""
        return self.draw(n_per_class, seed)


def planted_federation(
    architecture: Literal["cnn", "mlp"] = "cnn",
    *,
    n_clients: int = 5,
    n_classes: int = 10,
    seed: int = 0,
    drift: float = 0.01,
    noise: float = 0.0,
    widths: Sequence[int] | None = None,
) -> PlantedFederation:
    """Clients with aligned units whose average keeps, moves, halves or loses each class.

    All clients detect the same glyphs with the same units. What becomes of a class follows from
    which clients join its glyphs in which units, see ``Fate``; a client has a negative bias in
    the units it does not use, so that the path of a single one is silent in the average. Class 0 is
    kept, and samples that no logit speaks for go to it.

    Parameters
    ----------
    architecture
        ``"cnn"`` as in ``planted_cnn``, or ``"mlp"`` as in ``planted_mlp``.
    n_clients, n_classes, seed
        4 clients or more, for a single one must weigh little; 5 classes or more, each fate once.
    drift, noise
        Standard deviations: of the relative change of every planted weight in every client, and
        of Gaussian noise on the inputs.
    widths
        None takes what the plan needs and half as many silent units again.

    Raises
    ------
    ValueError
        If there are too few clients or classes, or the network does not fit into the widths.
    """
    generator = torch.Generator().manual_seed(seed)
    medium, patterns, carried = _planned(architecture, n_clients, n_classes, generator)
    widths = widths or [len(layer) + len(layer) // 2 for layer in carried.plan.layers]
    order = Order.draw(carried.plan, widths, generator)
    glyphs = medium.glyphs(patterns.n_glyphs, generator)
    sampler = SceneSampler(medium, patterns, glyphs, noise, background=False)
    model = medium.layers(glyphs, widths, n_classes)
    plans = {str(client): carried.of_client(client) for client in range(n_clients)}
    shares = _shares(plans, generator)
    write = partial(written, order=order, model=model, codes=medium.codes(glyphs))
    clients = {name: _weights(write(plan), drift, generator) for name, plan in plans.items()}
    average = _average(clients, shares)
    model.load_state_dict({name: torch.tensor(array) for name, array in average.items()})
    return PlantedFederation(
        model.eval(),
        find_sites(model, sampler(1, 0).inputs[:1]),
        clients,
        shares,
        average,
        {name: carried.verdicts(client) for client, name in enumerate(plans)},
        carried.fates,
        {name: true_units(plan, order, n_classes) for name, plan in plans.items()},
        true_units(carried.of_average(), order, n_classes),
        sampler,
        tuple(f"class {c}" for c in range(n_classes)),
    )


def _planned(
    architecture: str, n_clients: int, n_classes: int, generator: torch.Generator
) -> tuple[Medium, Patterns, CarriedPlan]:
    """What the networks are, the patterns of all classes, and the plan of all clients."""
    if n_clients < 4 or n_classes < 5:
        raise ValueError(
            "a planted federation needs 4 clients and 5 classes or more, "
            f"got {n_clients} and {n_classes}"
        )
    medium = {Architecture.CNN: IMAGES, Architecture.MLP: VECTORS}[Architecture(architecture)]
    patterns = draw_patterns(n_classes, frozenset(), generator, arranged=medium.arranged)
    carried = carried_plan(patterns, n_clients, medium.depth, generator)
    carried.plan.prior[0] = FALLBACK
    return medium, patterns, carried


def _shares(names: Collection[str], generator: torch.Generator) -> dict[str, float]:
    """Weights in the average, within about 10 % of one another; they sum to 1."""
    masses = 0.95 + 0.1 * torch.rand(len(names), generator=generator, dtype=torch.float64)
    return dict(zip(names, (masses / masses.sum()).tolist(), strict=True))


def _weights(model: nn.Module, size: float, generator: torch.Generator) -> Weights:
    """The weights of one client, each planted one a little off."""
    return {
        name: (value * (1 + size * torch.randn(value.shape, generator=generator))).numpy()
        for name, value in model.state_dict().items()
    }


def _average(clients: Mapping[str, Weights], shares: Mapping[str, float]) -> Weights:
    """The weighted mean of every array, summed in double precision."""
    average: Weights = {}
    for name in next(iter(clients.values())):
        arrays = [
            shares[one] * weights[name].astype(np.float64) for one, weights in clients.items()
        ]
        average[name] = np.asarray(np.sum(arrays, axis=0), dtype=np.float32)
    return average
