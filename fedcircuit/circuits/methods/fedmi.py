"""The published procedure of arXiv 2512.23043 (FedMI), as its code does it: the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits import Site, site_slices
from fedcircuit.circuits.models import CONVOLUTIONS
from fedcircuit.circuits.search import Discovery, SearchedModel, SearchingMethod
from fedcircuit.circuits.sites import capture, gate, transformed
from fedcircuit.logits import logits_of
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class FedMI(SearchingMethod):
    """Straight-through gates on convolution channels, trained on images of the class alone.

    Haseeb, Masood and Sohail 2025, arXiv 2512.23043, as in the public code of 30 December 2025.
    A gate multiplies the convolution's own output, before the nonlinearity; all start at
    ``init``; Adam makes ``steps`` steps on cross-entropy plus ``l0`` times the sum of their
    sigmoids; every step sees those rows of the first shuffled batch with the class that are of
    the class; the circuit is ``gate > 0`` at the end. Linear layers are never gated: units of
    hidden linear sites stay in the circuit.

    The paper returns an empty circuit for a class without samples; here none is found.

    Parameters
    ----------
    classes
        Classes to look for; None is all. The published studies look at three or four.
    steps, lr, l0, init, batch_size
        As published.
    """

    name: ClassVar[str] = "fedmi"

    classes: tuple[int, ...] | None = None
    steps: int = 200
    lr: float = 0.1
    l0: float = 0.01
    init: float = 2.0
    batch_size: int = 256

    def search(self, searched: SearchedModel) -> Discovery:
        """Circuits of the asked classes, one optimisation after the other."""
        if not any(_is_gated(searched.model, site) for site in searched.sites):
            raise ValueError("method 'fedmi' gates convolution channels; the model has none")
        seed, reasons = searched.generator.initial_seed(), []
        masks, scores = searched.nothing()
        means = None if searched.task.reference is None else _channel_means(searched)
        for index, count in enumerate(searched.samples.counts(searched.n_classes).tolist()):
            # a stream of its own: the circuit does not depend on which others are asked for
            own = torch.Generator().manual_seed((seed + index) % 2**63)
            if self.classes is not None and index not in self.classes:
                reasons.append("not asked for")
            elif count == 0:
                reasons.append("no sample of the class")
            else:
                gates = self._train(replace(searched, generator=own), index, means)
                scores[index] = gates
                masks[index] = gates > 0
                reasons.append("")
        found, none = torch.tensor([not reason for reason in reasons]), (None,) * len(reasons)
        cost = searched.meter.cost()
        return Discovery(searched.sites, masks, found, scores, tuple(reasons), cost, none)

    def _train(
        self, here: SearchedModel, target: int, means: Mapping[str, Tensor] | None
    ) -> Tensor:
        """Gate values ``[units]`` after the last step; units that are not gated keep ``init``."""
        model, parts = here.model, zip(here.sites, site_slices(here.sites), strict=True)
        trained = [(site, part) for site, part in parts if _is_gated(model, site)]
        gates = torch.full((here.n_units,), self.init, requires_grad=True)
        rows = here.memory.rows(graph=True)
        optimizer = torch.optim.Adam([gates], lr=self.lr)

        def transform(site: Site, part: slice) -> Callable[[Tensor], Tensor]:
            mean = None if means is None else means[site.name]
            return lambda output: gate(output, _straight_through(gates[part]), site.axis, mean)

        with (
            torch.enable_grad(),
            transformed(model, {site.name: transform(site, part) for site, part in trained}),
        ):
            for _ in range(self.steps):
                images = _target_rows(here.samples, target, self.batch_size, here.generator)
                optimizer.zero_grad()
                loss = sum(torch.sigmoid(gates[part]).sum() for _, part in trained) * self.l0
                for few in torch.split(images, rows):
                    logits = logits_of(model, few)
                    labels = torch.full((len(few),), target, device=logits.device)
                    share = len(few) / len(images)
                    loss = loss + functional.cross_entropy(logits, labels) * share
                    loss.backward()  # type: ignore[no-untyped-call]
                    loss = torch.zeros(())
                optimizer.step()
                here.meter.forward += len(images)
                here.meter.backward += len(images)
        return gates.detach()


def _is_gated(model: nn.Module, site: Site) -> bool:
    return isinstance(model.get_submodule(site.name), CONVOLUTIONS)


def _straight_through(gates: Tensor) -> Tensor:
    soft = torch.sigmoid(gates)
    return (gates > 0).to(soft.dtype) - soft.detach() + soft


def _target_rows(
    samples: Samples, target: int, batch_size: int, generator: torch.Generator
) -> Tensor:
    """Images of the class in the first batch, of a fresh shuffle, that has any."""
    order = torch.randperm(len(samples), generator=generator)
    for batch in torch.split(order, batch_size):
        rows = batch[samples.labels[batch] == target]
        if len(rows):
            return samples.inputs[rows]
    raise ValueError(f"no sample of class {target}")


@torch.no_grad()
def _channel_means(here: SearchedModel) -> dict[str, Tensor]:
    """Mean of each channel of the convolutions' own outputs over samples and positions."""
    samples = here.samples
    own = [Site(site.name, site.n_units, site.axis, site.name) for site in here.sites]
    means: dict[str, Tensor] = {}
    for part in torch.split(samples.inputs, here.memory.rows(graph=False, most=len(samples))):
        with capture(here.model, own) as seen:
            logits_of(here.model, part)
        for site in own:
            activation = seen[site.name].movedim(site.axis, 1)
            mean = activation.flatten(2).mean((0, 2)) if activation.ndim > 2 else activation.mean(0)
            shape = [1] * seen[site.name].ndim
            shape[site.axis] = site.n_units
            found = mean.reshape(shape) * (len(part) / len(samples))
            means[site.name] = found + means[site.name] if site.name in means else found
    return means
