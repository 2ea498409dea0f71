"""Whether unit u of one model is unit u of another: matching of units, similarity of layers.

Models that started from the same weights have the same units in the same places, until they
drift; models from different initialisations do not, and their circuits cannot be compared before
their units are matched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.models import evaluating
from fedcircuit.circuits.overlap.chance import Floats
from fedcircuit.circuits.sites import capture
from fedcircuit.logits import inputs_for

_CONSTANT = 1e-6  # spread of a unit relative to its size, below which it does not vary


@dataclass(frozen=True)
class SiteAlignment:
    """How the units of one site of model A lie in model B.

    A unit is dead in a model if its activation does not vary over samples and positions.

    Parameters
    ----------
    site
        Name of the site.
    own_share
        Share of the units alive in both whose best match is themselves; NaN if there is none.
    own_correlation, matched_correlation
        Mean correlation of the units alive in both with themselves, and of all matched pairs.
    n_alive, dead_a, dead_b
        Units alive in both, dead in A, dead in B.
    match
        ``[units]`` int64, for every unit of A its match in B: a permutation. Units without a match
        (dead, or left over) keep their places as far as these are free.
    """

    site: str
    own_share: float
    own_correlation: float
    matched_correlation: float
    n_alive: int
    dead_a: int
    dead_b: int
    match: Tensor


@dataclass(frozen=True)
class Alignment:
    """How the units of model A lie in model B, by site in order of execution."""

    sites: tuple[SiteAlignment, ...]

    @property
    def permutation(self) -> Tensor:
        """Index ``[units]`` over the units of all sites, concatenated."""
        parts, start = [], 0
        for site in self.sites:
            parts.append(site.match + start)
            start += len(site.match)
        return torch.cat(parts)

    def in_first(self, units: Tensor) -> Tensor:
        """Masks or scores ``[..., units]`` of model B, units at the places of their matches."""
        return units[..., self.permutation]


def align(first: nn.Module, second: nn.Module, sites: Sequence[Site], inputs: Tensor) -> Alignment:
    """Match the units of two models of one architecture, site by site, by their activations.

    The pairs that maximise the sum of correlations over samples and positions (Hungarian method;
    Li et al. 2015, arXiv 1511.07543), each unit used once. Dead units take no part.

    Parameters
    ----------
    first, second
        Models with the same sites; they are left as they came.
    sites
        Sites of both.
    inputs
        ``[n, ...]``; a few hundred samples of all classes.

    Raises
    ------
    ValueError
        If the activations of a site differ in shape.
    """
    a, b = _activations(first, sites, inputs), _activations(second, sites, inputs)
    aligned = []
    for site in sites:
        if a[site.name].shape != b[site.name].shape:
            raise ValueError(
                f"site {site.name!r} must be the same in both models, got activations of shape "
                f"{tuple(a[site.name].shape)} and {tuple(b[site.name].shape)}"
            )
        rows = (x[site.name].movedim(site.axis, 0).flatten(1).double().numpy() for x in (a, b))
        aligned.append(_site(site.name, *rows))
    return Alignment(tuple(aligned))


def site_cka(
    first: nn.Module, second: nn.Module, sites: Sequence[Site], inputs: Tensor
) -> dict[str, tuple[float, float]]:
    """Linear CKA of two models' activations at every site: as published, and without its bias.

    Positions of a feature map are features, samples are rows. Takes what `align` does; the two
    models may differ in the number of units.
    """
    a, b = _activations(first, sites, inputs), _activations(second, sites, inputs)
    result = {}
    for site in sites:
        x, y = (one[site.name].flatten(1).double() for one in (a, b))
        result[site.name] = (linear_cka(x, y), linear_cka(x, y, debiased=True))
    return result


def linear_cka(x: Tensor, y: Tensor, *, debiased: bool = False) -> float:
    """Similarity of two representations of the same samples, whatever the basis of each.

    ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))`` with ``K = x x'`` and ``L = y y'`` (Kornblith et
    al. 2019, arXiv 1905.00414). NaN where a representation does not vary at all, or there are too
    few samples. It is high for unrelated representations with many more features than samples; the
    debiased form, with the unbiased HSIC of Song et al. 2012 (J. Mach. Learn. Res. 13, 1393-1434),
    is 0 on average there and may be negative.

    Parameters
    ----------
    x, y
        ``[n, features]``, the same samples in the same order.
    debiased
        Needs at least 4 samples; the other form 2.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(
            "representations must be [n, features] of the same n samples, "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if len(x) < (4 if debiased else 2) or _is_constant(x) or _is_constant(y):
        return math.nan
    grams = [one.double() - one.double().mean(0) for one in (x, y)]
    k, m = (_prepared(one @ one.T, debiased=debiased) for one in grams)
    scale = float((k * k).sum()) * float((m * m).sum())
    return float((k * m).sum()) / math.sqrt(scale) if scale > 0 else math.nan


def _prepared(gram: Tensor, *, debiased: bool) -> Tensor:
    """A Gram matrix such that the sum of products of two is their HSIC, up to a factor."""
    if not debiased:
        return gram  # of centred rows, so it is centred
    n = len(gram)
    hollow = gram - torch.diag(gram.diagonal())
    sums = hollow.sum(0) / (n - 2)
    u = hollow - sums - sums[:, None] + hollow.sum() / ((n - 1) * (n - 2))
    return u - torch.diag(u.diagonal())


def _is_constant(x: Tensor) -> bool:
    return bool(((x - x.mean(0)).abs() <= _CONSTANT * x.abs().amax(0)).all())


@torch.no_grad()
def _activations(model: nn.Module, sites: Sequence[Site], inputs: Tensor) -> dict[str, Tensor]:
    with evaluating(model), capture(model, sites) as seen:
        model(inputs_for(model, inputs))
    return {name: activation.cpu() for name, activation in seen.items()}


def _site(name: str, a: Floats, b: Floats) -> SiteAlignment:
    """Match of the units of one site from activations ``[units, values]``."""
    a, alive_a = _standardised(a)
    b, alive_b = _standardised(b)
    correlation = a @ b.T
    rows, columns = alive_a.nonzero()[0], alive_b.nonzero()[0]
    from scipy.optimize import linear_sum_assignment

    picked = linear_sum_assignment(correlation[np.ix_(rows, columns)], maximize=True)
    units_a, units_b = rows[picked[0]], columns[picked[1]]
    match = _completed(units_a, units_b, len(a))
    both = alive_a & alive_b
    is_own = np.zeros(len(a), dtype=bool)
    is_own[units_a] = units_a == units_b
    return SiteAlignment(
        site=name,
        own_share=_mean(is_own[both].astype(np.float64)),
        own_correlation=_mean(correlation.diagonal()[both]),
        matched_correlation=_mean(correlation[units_a, units_b]),
        n_alive=int(both.sum()),
        dead_a=int((~alive_a).sum()),
        dead_b=int((~alive_b).sum()),
        match=torch.from_numpy(match),
    )


def _standardised(values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows less their mean and of norm 1, zero where a row does not vary; and where it does."""
    centred = values - values.mean(1, keepdims=True)
    alive = np.abs(centred).max(1) > _CONSTANT * np.abs(values).max(1)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    result: Floats = np.divide(
        centred, norm, out=np.zeros_like(centred), where=alive[:, None] & (norm > 0)
    )
    return result, alive


def _completed(units_a: NDArray[np.int64], units_b: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """A permutation ``[n]`` with these pairs; the others keep their places where they can."""
    match = np.full(n, -1, dtype=np.int64)
    match[units_a] = units_b
    free = np.ones(n, dtype=bool)
    free[units_b] = False
    stays = (match < 0) & free
    match[stays] = stays.nonzero()[0]
    free &= ~stays
    match[match < 0] = free.nonzero()[0]
    return match


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else math.nan
