"""Many models of one architecture at once: weights stacked, one product for all of them.

A network of linear layers is small, and most of the time of its analysis goes into calling things.
Where only linear layers, nonlinearities that act on each number alone and a flattening of the input
follow one another, the weights of all models are stacked, ``[models, out, in]``, and each step is
one batched product. Nothing is approximated: what is found agrees with the models one by one up to
rounding. Convolutions are not stacked: on a CPU they are slower that way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.circuits import Site, split_by_site
from fedcircuit.circuits.sites import call_order

_POINTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Identity, nn.Dropout,
)  # fmt: skip  # all are 0 at 0, so a path is one of weights


@dataclass(frozen=True)
class Layers:
    """Linear layers that follow one another; made by `layers_of`.

    Parameters
    ----------
    sites
        One for each layer but the last.
    names
        Of the layers, the last of which makes the logits.
    after
        For each site the modules behind its layer.
    """

    sites: tuple[Site, ...]
    names: tuple[str, ...]
    after: tuple[tuple[nn.Module, ...], ...]

    def activated(self, place: int, values: Tensor) -> Tensor:
        """What the modules behind a layer make of its output; the logits as they are."""
        for module in self.after[place] if place < len(self.after) else ():
            values = module(values)
        return values


def layers_of(model: nn.Module, sites: Sequence[Site], example: Tensor) -> Layers | None:
    """The layers of a model; None where it is not made of linear layers alone.

    What is found by order and type alone must still be compared with the model itself.
    """
    order = call_order(model, example)
    modules = [model.get_submodule(name) for name in order]
    linear = [place for place, module in enumerate(modules) if isinstance(module, nn.Linear)]
    if len(set(order)) != len(order) or len(linear) != len(sites) + 1:
        return None
    if linear[-1] != len(order) - 1 or not all(
        isinstance(module, (nn.Flatten, nn.Identity, nn.Dropout)) for module in modules[: linear[0]]
    ):
        return None
    after = []
    for site, place, following in zip(sites, linear, linear[1:], strict=False):
        between = modules[place + 1 : following]
        fits = order[place] == site.name and site.output in order[place:following]
        if not fits or not all(isinstance(module, _POINTWISE) for module in between):
            return None
        # behind a site's output only what does nothing may follow: gates act between
        if not all(
            isinstance(module, (nn.Identity, nn.Dropout))
            for module in modules[order.index(site.output) + 1 : following]
        ):
            return None
        after.append(tuple(m for m in between if not isinstance(m, nn.Dropout)))
    return Layers(tuple(sites), tuple(order[place] for place in linear), tuple(after))


@dataclass(frozen=True)
class Stack:
    """Models of one architecture.

    Parameters
    ----------
    layers
        The architecture.
    weights, biases
        For each layer ``[models, out, in]`` and ``[models, 1, out]``.
    """

    layers: Layers
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.weights[0])

    def first(self, inputs: Tensor) -> Tensor:
        """Activations of the first site, ``[models, n, units]``."""
        rows = inputs.flatten(1).expand(len(self), -1, -1)
        return self._layer(0, rows)

    def behind(self, first: Tensor) -> list[Tensor]:
        """Activations of the other sites and the logits, from those of the first site."""
        found = [first]
        for place in range(1, len(self.weights)):
            found.append(self._layer(place, found[-1]))
        return found[1:]

    def live(self) -> Tensor:
        """Units reached from the input and read by a logit, ``[models, units]`` bool."""
        used = [weight != 0 for weight in self.weights]
        reached = [used[0].any(2)]
        for weight in used[1:-1]:
            reached.append((weight & reached[-1][:, None]).any(2))
        read = [used[-1].any(1)]
        for weight in used[-2:0:-1]:
            read.append((weight & read[-1][:, :, None]).any(1))
        return torch.cat([a & b for a, b in zip(reached, reversed(read), strict=True)], 1).cpu()

    def has_path(self, masks: Tensor, owners: Tensor) -> Tensor:
        """Whether a path leads through mask i in the model ``owners[i]``, ``[rows]`` bool."""
        found = torch.zeros(len(masks), dtype=torch.bool)
        for owner in sorted(set(owners.tolist())):
            rows = (owners == owner).nonzero().flatten()
            parts = split_by_site(masks[rows].to(self.weights[0]), self.layers.sites)
            value = (self.weights[0][owner] != 0).any(1).to(self.weights[0])
            for weight, part in zip(self.weights[1:], parts.values(), strict=True):
                value = ((value * part) @ (weight[owner] != 0).to(part).T > 0).to(part)
            found[rows] = (value > 0).any(1).cpu()
        return found

    def _layer(self, place: int, values: Tensor) -> Tensor:
        weight = self.weights[place].transpose(1, 2)
        return self.layers.activated(place, torch.baddbmm(self.biases[place], values, weight))


def stack(
    layers: Layers, models: Sequence[Mapping[str, NDArray[np.generic]]], like: Tensor
) -> Stack:
    """Stack the weights of models.

    A single logit z becomes the two logits 0 and z, as `fedcircuit.logits.as_logits` makes them.

    Parameters
    ----------
    layers
        Their architecture.
    models
        Named arrays of each.
    like
        A tensor of the type and on the device wanted.
    """

    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(one[name]) for one in models])).to(like)

    weights = tuple(stacked(f"{name}.weight") for name in layers.names)
    biases = tuple(
        stacked(f"{name}.bias")[:, None]
        if f"{name}.bias" in models[0]
        else weight.new_zeros(len(models), 1, weight.shape[1])
        for name, weight in zip(layers.names, weights, strict=True)
    )
    if weights[-1].shape[1] == 1:
        last = weights[-1], biases[-1]
        weights = (*weights[:-1], torch.cat([torch.zeros_like(last[0]), last[0]], 1))
        biases = (*biases[:-1], torch.cat([torch.zeros_like(last[1]), last[1]], 2))
    return Stack(layers, weights, biases)
