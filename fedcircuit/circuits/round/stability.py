"""How far the search for circuits agrees with itself: seeds, probe halves, resampled images.

An overlap between two models cannot be expected to exceed what either model reaches with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.discovery import discover
from fedcircuit.circuits.overlap import Floats, Ints, OverlapTable, Side, paired_overlaps
from fedcircuit.circuits.paths import live_units
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.circuits.search import Discovery
from fedcircuit.circuits.sites import find_sites

Find = Callable[[Probe, int], Discovery]  # circuits found on a probe's discovery half, by seed


def corrected_overlap(adjusted: Floats, ceiling_a: Floats, ceiling_b: Floats) -> Floats:
    """Overlap of two models relative to how far each agrees with itself.

    ``J_adj(A, B) / sqrt(J_adj(A, A') J_adj(B, B'))``, the correction for attenuation (Spearman
    1904, Am. J. Psychol. 15, 72-101). Not clipped: it may exceed 1. NaN where a ceiling is zero,
    negative or NaN: a search that does not agree with itself says nothing about two models.

    Parameters
    ----------
    adjusted, ceiling_a, ceiling_b
        Chance-adjusted IoU of A with B, of A with itself and of B with itself under another seed
        and probe half; of shapes that broadcast.
    """
    given, first, second = np.broadcast_arrays(
        *(np.asarray(values, dtype=np.float64) for values in (adjusted, ceiling_a, ceiling_b))
    )
    usable = (first > 0) & (second > 0)
    # root by root: the product of two tiny ceilings would be zero
    scale = np.sqrt(np.where(usable, first, 1.0)) * np.sqrt(np.where(usable, second, 1.0))
    result = np.full(given.shape, np.nan)
    np.divide(given, scale, out=result, where=usable)
    return result


@dataclass(frozen=True)
class Stability:
    """Overlap of a model's circuits with its own from another search, ``[classes, layers + 1]``.

    Parameters
    ----------
    seeds
        Another seed, the same half of the probe.
    halves
        The same seed, the other half of the probe.
    both
        Another seed and the other half: the noise ceiling of comparisons between models.
    """

    seeds: OverlapTable
    halves: OverlapTable
    both: OverlapTable


def swapped_halves(probe: Probe) -> Probe:
    """The probe with its halves exchanged."""
    return Probe(probe.checking, probe.discovery, probe.class_names)


def stability_of(
    find: Find, probe: Probe, *, seeds: tuple[int, int] = (0, 1), live: Tensor | None = None
) -> Stability:
    """Stability of any search for circuits, by four searches.

    Parameters
    ----------
    find
        Gives the circuits found on a probe's discovery half with a seed.
    probe
        Its halves are exchanged for the second pair of searches.
    seeds
        Two different ones.
    live
        ``[units]`` bool; None takes all units.

    Raises
    ------
    ValueError
        If the seeds are equal.
    """
    if seeds[0] == seeds[1]:
        raise ValueError(f"seeds must differ to be compared, got {seeds[0]} twice")
    other = swapped_halves(probe)
    first = find(probe, seeds[0])

    def against(found: Discovery) -> OverlapTable:
        one, two = (Side(d.masks, d.found, live) for d in (first, found))
        return paired_overlaps(one, two, first.sites)

    return Stability(
        seeds=against(find(probe, seeds[1])),
        halves=against(find(other, seeds[0])),
        both=against(find(other, seeds[1])),
    )


def stability(
    model: nn.Module,
    probe: Probe,
    settings: CircuitSettings | None = None,
    *,
    seeds: tuple[int, int] = (0, 1),
) -> Stability:
    """Stability of a model's circuits under the given settings, among its live units.

    Parameters
    ----------
    model
        Takes ``[n, ...]`` and gives logits ``[n, classes]``; it is left as it came.
    probe, seeds
        As in `stability_of`. The ablation's reference is taken on the half that is searched.
    settings
        Discovery method and ablation; None takes the defaults.

    Raises
    ------
    ValueError
        If the model has no sites or does not fit the probe, or the seeds are equal.
    """
    chosen = settings or CircuitSettings()

    def find(part: Probe, seed: int) -> Discovery:
        return discover(model, part, method=chosen.discovery(), ablation=chosen.ablation, seed=seed)

    example = probe.discovery.inputs[:1]
    live = live_units(model, find_sites(model, example), example)
    return stability_of(find, probe, seeds=seeds, live=live)


@dataclass(frozen=True)
class SampleScores:
    """What every sample contributes to the scores of units.

    Parameters
    ----------
    scores
        ``[n, classes, units]`` float: their sum over the samples is the score of unit u for class
        c, the weights of positive and negative samples included.
    labels
        ``[n]`` int64.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """

    scores: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.scores.ndim != 3 or self.labels.shape != self.scores.shape[:1]:
            raise ValueError(
                "scores must be [n, classes, units] and labels [n], "
                f"got {tuple(self.scores.shape)} and {tuple(self.labels.shape)}"
            )


@dataclass(frozen=True)
class BootstrapStability:
    """Chance-adjusted IoU of circuits from resampled samples, ``[classes, layers + 1]`` each.

    Parameters
    ----------
    layers
        Names of the columns.
    adjusted
        Mean over pairs of resamples; NaN where no pair is defined.
    spread
        Standard deviation over those pairs, not of the mean.
    n_pairs
        Pairs that are defined.
    """

    layers: tuple[str, ...]
    adjusted: Floats
    spread: Floats
    n_pairs: Ints


def bootstrap_stability(
    samples: SampleScores,
    sites: Sequence[Site],
    choose: Callable[[Tensor], Tensor],
    generator: torch.Generator,
    *,
    draws: int = 40,
    live: Tensor | None = None,
) -> BootstrapStability:
    """Expected adjusted IoU of circuits under new samples, without running the model again.

    Samples are drawn with replacement within each class, which keeps the class weights as they
    are; scores of a resample are one matrix product. Each resample is compared with the next,
    the last with the first.

    The figure errs to the high side: both resamples carry the noise of the samples they come from,
    and the reference of the ablation is not resampled. On Gaussian scores it was .75, .57 and .40
    where new samples gave .73, .53 and .29: read values below one half as an upper bound.

    Parameters
    ----------
    samples
        Contributions of every sample.
    sites, live
        Sites the units belong to, and ``[units]`` bool: the pool; None takes all units.
    choose
        From scores ``[rows, units]`` to masks ``[rows, units]`` bool, such as
        ``partial(top_k, k=90)``; a row without a unit is no circuit.
    generator
        Draws the samples.
    draws
        Number of resamples.

    Raises
    ------
    ValueError
        If there are fewer than 3 draws or no sample.
    """
    if draws < 3:
        raise ValueError(f"draws must be >= 3 to be compared in pairs, got {draws}")
    if not len(samples.labels):
        raise ValueError("stability needs samples to draw from, got none")
    n, n_classes, n_units = samples.scores.shape
    counts = resample_counts(samples.labels, draws, generator).to(samples.scores.dtype)
    scores = (counts @ samples.scores.reshape(n, -1)).reshape(draws * n_classes, n_units)
    masks = choose(scores).reshape(draws, n_classes, n_units)
    following = masks.roll(-1, dims=0)
    table = paired_overlaps(
        Side(masks.flatten(0, 1), masks.any(-1).flatten(), live),
        Side(following.flatten(0, 1), following.any(-1).flatten(), live),
        sites,
    )
    adjusted = table.adjusted.reshape(draws, n_classes, len(table.layers))
    n_pairs = (~np.isnan(adjusted)).sum(0)
    mean, square = np.full(n_pairs.shape, np.nan), np.full(n_pairs.shape, np.nan)
    np.divide(np.nansum(adjusted, axis=0), n_pairs, out=mean, where=n_pairs > 0)
    deviation = np.nansum((adjusted - mean) ** 2, axis=0)
    np.divide(deviation, n_pairs - 1, out=square, where=n_pairs > 1)
    return BootstrapStability(table.layers, mean, np.sqrt(square), n_pairs)


def resample_counts(labels: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """How often each sample is drawn, ``[draws, n]`` int64, with replacement within its class."""
    counts = torch.zeros(draws, len(labels), dtype=torch.int64)
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        drawn = torch.randint(len(members), (draws, len(members)), generator=generator)
        counts.scatter_add_(1, members[drawn], torch.ones_like(drawn))
    return counts
