"""The information plane of a federation: what each layer keeps of the input and of the label.

For the average and for every local model just before averaging, all on one common pool, as in the
protocol of arXiv 1911.07652 (Adilova, Rosenzweig, Kamp, 2019):

    Ix = I(X;T)    Iy = I(T;Y)                       of every hidden layer T
    dIx = Ix(average) - mean over clients of Ix      dIy = the same of Iy

Read it with its limits. A deterministic network with continuous inputs has no finite I(X;T): every
finite number is a property of the bin or the noise that the estimator adds, which is why each
value carries its setting. An estimate near the logarithm of the number of samples says only that
there are too few of them: it is flagged as saturated. And I(T;Y) can rise while a model gets
worse, so no value stands without the accuracy of its model on the same pool.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from fedcircuit.analysis.estimators import (
    INPUTS,
    LABELS,
    Estimate,
    InformationSettings,
    layer_information,
)
from fedcircuit.analysis.information.activations import Spatial, pool_activations
from fedcircuit.circuits import Site
from fedcircuit.samples import Samples

Cells = tuple[str | int | float | bool | None, ...]

MEAN = "mean of clients"  # name of the averaged curve, beside the names of models
PLANE_COLUMNS = (
    "model", "layer", "quantity", "value", "unit", "estimator", "setting", "n", "d", "unique",
    "saturated", "null", "accuracy", "reason",
)  # fmt: skip
GAP_COLUMNS = ("layer", "dIx", "dIy", "accuracy_gap", "saturated")
DIFFERS = "differs between models"  # settings that have no text in common


@dataclass(frozen=True)
class PlaneSettings:
    """How a plane is measured.

    Parameters
    ----------
    information
        Estimators and their settings.
    spatial
        What one sample of a convolution is: ``mean``, the mean of each channel over all positions
        (``d`` is the number of channels), or ``flat``, every channel at every position. Tokens
        are positions too. Layers without positions are the same in both.
    output
        Look at the logits as well, as the last layer, named ``output``.

    Raises
    ------
    ValueError
        If ``spatial`` is neither.
    """

    information: InformationSettings
    spatial: Spatial = "mean"
    output: bool = False

    def __post_init__(self) -> None:
        if self.spatial not in ("mean", "flat"):
            raise ValueError(f"spatial must be 'mean' or 'flat', got {self.spatial!r}")


@dataclass(frozen=True)
class ModelPlane:
    """All layers of one model, or of the mean over clients.

    Parameters
    ----------
    model
        Its name.
    accuracy
        On the pool.
    layers
        In order of execution, a layer's name and its estimates, in the order of the settings.
    """

    model: str
    accuracy: float
    layers: tuple[tuple[str, tuple[Estimate, ...]], ...]

    @property
    def cells(self) -> tuple[Cells, ...]:
        """A row a layer and estimate, columns as ``PLANE_COLUMNS``."""
        return tuple(
            (self.model, layer, e.quantity, e.value, e.unit, e.estimator, e.setting, e.n, e.d,
             e.unique, e.saturated, e.null, self.accuracy, e.reason or None)
            for layer, estimates in self.layers
            for e in estimates
        )  # fmt: skip


@dataclass(frozen=True)
class LayerGap:
    """A layer of the average minus the mean of the clients; NaN where one of them is not defined.

    Parameters
    ----------
    layer
        Its name.
    d_inputs, d_labels
        Differences of I(X;T) and I(T;Y), in the unit of the estimates. Where a quantity has a
        lower and an upper bound, of the upper ones.
    accuracy
        Difference of the accuracies on the pool.
    saturated
        Whether an estimate that was subtracted is saturated, in the average or in any client: its
        difference then says little or nothing.
    """

    layer: str
    d_inputs: float
    d_labels: float
    accuracy: float
    saturated: bool

    @property
    def cells(self) -> Cells:
        """The row, columns as ``GAP_COLUMNS``."""
        return self.layer, self.d_inputs, self.d_labels, self.accuracy, self.saturated


def model_plane(
    name: str,
    model: nn.Module,
    pool: Samples,
    sites: Sequence[Site],
    settings: PlaneSettings,
    *,
    seed: int,
) -> ModelPlane:
    """All estimates of one model on the pool.

    Parameters
    ----------
    name
        Of the model, as it stands in the tables.
    model, pool, sites
        As in `fedcircuit.analysis.information.pool_activations`.
    settings
        How it is measured.
    seed
        Of splits and permutations. Give all models the same, so that they share them and their
        difference is not one of chance.
    """
    seen = pool_activations(model, pool, sites, spatial=settings.spatial, output=settings.output)
    labels = pool.labels.numpy()
    layers = tuple(
        (layer, layer_information(values.astype(np.float64), labels, settings.information,
                                  seed=seed))
        for layer, values in seen.layers.items()
    )  # fmt: skip
    return ModelPlane(name, seen.accuracy, layers)


def mean_plane(planes: Sequence[ModelPlane]) -> ModelPlane:
    """The mean of the curves of several models, every one counting the same.

    An estimate that is not defined for one of them is not defined for the mean, which is
    saturated where any of them is.

    Raises
    ------
    ValueError
        If there is no plane, or they differ in layers or estimators.
    """
    if not planes:
        raise ValueError("the mean of planes needs at least one, got none")
    kinds = {_kinds(plane) for plane in planes}
    if len(kinds) > 1:
        raise ValueError(f"planes must have the same layers and estimators, got {sorted(kinds)}")
    layers = tuple(
        (name, tuple(_mean(e) for e in zip(*(p.layers[i][1] for p in planes), strict=True)))
        for i, (name, _) in enumerate(planes[0].layers)
    )
    return ModelPlane(MEAN, _average([plane.accuracy for plane in planes]), layers)


def _kinds(plane: ModelPlane) -> tuple[tuple[str, str, str, str], ...]:
    return tuple(
        (layer, e.quantity, e.estimator, e.unit) for layer, estimates in plane.layers
        for e in estimates
    )  # fmt: skip


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    return replace(
        estimates[0],
        value=_average([e.value for e in estimates]),
        setting=common_setting([e.setting for e in estimates]),
        unique=_average([e.unique for e in estimates]),
        saturated=any(e.saturated for e in estimates),
        null=_average([e.null for e in estimates]),
        reason="; ".join(dict.fromkeys(e.reason for e in estimates if e.reason)),
    )


def common_setting(texts: Iterable[str]) -> str:
    """One text for settings that differ in numbers alone, such as a noise relative to a layer.

    A number that differs becomes ``LOWEST to HIGHEST``. Texts that differ otherwise have nothing
    in common, which is then said.
    """
    words = [text.split(" ") for text in dict.fromkeys(texts)]
    if len({len(line) for line in words}) > 1:
        return DIFFERS
    common = []
    for column in zip(*words, strict=True):
        if len(set(column)) == 1:
            common.append(column[0])
            continue
        try:
            numbers = sorted(column, key=float)
        except ValueError:
            return DIFFERS
        common.append(f"{numbers[0]} to {numbers[-1]}")
    return " ".join(common)


def _average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def plane_gaps(average: ModelPlane, clients: ModelPlane | None) -> tuple[LayerGap, ...]:
    """Every layer of the average against the mean of the clients.

    Parameters
    ----------
    average
        The model after averaging.
    clients
        As :func:`mean_plane` gives it; None where no client is known: all gaps are then NaN.

    Raises
    ------
    ValueError
        If the two differ in layers or estimators.
    """
    other = average if clients is None else clients
    if _kinds(average) != _kinds(other):
        raise ValueError(
            f"average and clients must have the same layers and estimators, got {_kinds(average)} "
            f"and {_kinds(other)}"
        )
    known = 0.0 if clients is not None else math.nan
    rows = []
    for (layer, mine), (_, theirs) in zip(average.layers, other.layers, strict=True):
        pairs = [(principal(mine, q), principal(theirs, q)) for q in (INPUTS, LABELS)]
        gaps = [math.nan if a is None or b is None else a.value - b.value for a, b in pairs]
        saturated = any(e.saturated for pair in pairs for e in pair if e is not None)
        gap = average.accuracy - other.accuracy
        rows.append(LayerGap(layer, gaps[0] + known, gaps[1] + known, gap + known, saturated))
    return tuple(rows)


def principal(estimates: Sequence[Estimate], quantity: str) -> Estimate | None:
    """The estimate of a quantity that gaps are made of: of two bounds the upper one.

    The upper one is what the literature draws (Saxe et al., 2018); estimators give it last. None
    where the quantity was not estimated.
    """
    found = [e for e in estimates if e.quantity == quantity]
    return found[-1] if found else None
