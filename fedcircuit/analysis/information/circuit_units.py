"""The information in a circuit's units, against random units of equal number at every site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.analysis.estimators import (
    CONSTANT,
    Estimate,
    Float64Array,
    InformationSettings,
    Int64Array,
    label_information,
)
from fedcircuit.circuits import Site, site_slices
from fedcircuit.circuits.models import evaluating
from fedcircuit.circuits.sites import capture
from fedcircuit.learning import derived_seed
from fedcircuit.logits import inputs_for

About = Literal["class", "label"]
CLASS: About = "class"  # whether a sample is of the circuit's class
LABEL: About = "label"  # which class a sample is of

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class CircuitInformation:
    """Information about labels in the units of one class's circuit, and in random units.

    Parameters
    ----------
    class_index
        The circuit's class.
    about
        ``class``: whether a sample is of that class; ``label``: which class it is of.
    n_units
        Units of the circuit at all sites; 0 where there is no circuit.
    value
        The estimate for the circuit's units; NaN where there is no circuit.
    unit
        ``bits`` or ``nats``.
    random_mean, random_std
        Over random sets with as many units at every site; the sample standard deviation. NaN with
        fewer sets than they need, or where the control says nothing.
    random_below
        Share of the random sets with a lower value, equal ones counted half: 0.5 is chance.
    reason
        Why something is NaN, or the value is 0 without a look at the numbers; else empty.
    """

    class_index: int
    about: str
    n_units: int
    value: float
    unit: str
    random_mean: float
    random_std: float
    random_below: float
    reason: str


@dataclass(frozen=True)
class RandomUnits:
    """The control: how many random sets, from which units, drawn from which seed.

    Parameters
    ----------
    sets
        Random sets for every circuit; 0: none.
    among
        ``[units]`` bool: units that may be drawn, live ones say, beside the circuit's own; None is
        all.
    seed
        Of the sets, and of the estimator's folds.
    """

    sets: int = 20
    among: BoolArray | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sets < 0:
            raise ValueError(f"sets must be >= 0, got {self.sets}")


@torch.no_grad()
def unit_values(
    model: nn.Module, sites: Sequence[Site], inputs: Tensor, *, batch: int = 512
) -> Float64Array:
    """One number for every sample and unit, ``[n, units]``: the mean over positions or tokens.

    Units are those of all sites, one site after the other, as in a ``CircuitStack``; the model
    runs in eval mode and is not changed.
    """
    parts = []
    with evaluating(model), capture(model, sites) as seen:
        for start in range(0, len(inputs), batch):
            model(inputs_for(model, inputs[start : start + batch]))
            found = [_by_unit(seen[site.name], site) for site in sites]
            parts.append(torch.cat(found, dim=1).double().cpu())
    if not parts:
        return np.empty((0, sum(site.n_units for site in sites)))
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)


def _by_unit(activation: Tensor, site: Site) -> Tensor:
    """``[n, units]`` from an activation with units on the site's axis."""
    return (
        activation.movedim(site.axis, 1).flatten(2).mean(2) if activation.ndim > 2 else activation
    )


def circuit_information(
    values: Float64Array,
    labels: Int64Array,
    masks: Sequence[BoolArray | None],
    sites: Sequence[Site],
    settings: InformationSettings,
    *,
    control: RandomUnits,
    about: Sequence[About] = (CLASS, LABEL),
) -> tuple[CircuitInformation, ...]:
    """A row for every class and target: its circuit's information about the class, and the label.

    A random set has as many units at every site as the circuit has, so neither size nor depth
    tells them apart. Random sets may overlap the circuit.

    Parameters
    ----------
    values
        ``[n, units]`` on a pool that circuits were not found on: see :func:`unit_values`.
    labels
        ``[n]``, class indices.
    masks
        For every class ``[units]`` bool, or None where no circuit was found.
    sites
        Where the units are.
    settings
        Its ``labels`` estimator is used; with Kolchinsky-Tracey the upper one.
    control
        The random sets.
    about
        Which targets.

    Raises
    ------
    ValueError
        If a shape does not fit the sites.
    """
    _check_units(values, masks, sites, control)
    rows = []
    for index, mask in enumerate(masks):
        if mask is None:
            nan = math.nan
            rows += [
                CircuitInformation(index, what, 0, nan, settings.unit, nan, nan, nan, "no circuit")
                for what in about
            ]
            continue
        random = random_sets(mask, sites, control, stream=index)
        for what in about:
            target = labels if what == LABEL else (labels == index).astype(np.int64)
            found = [
                label_information(values[:, units], target, settings, seed=control.seed)[-1]
                for units in (mask, *random)
            ]
            row = _row(index, what, int(mask.sum()), found)
            if not random and control.sets and not row.reason:
                row = replace(row, reason="no other units of these numbers")
            rows.append(row)
    return tuple(rows)


def _check_units(
    values: Float64Array,
    masks: Sequence[BoolArray | None],
    sites: Sequence[Site],
    control: RandomUnits,
) -> None:
    n_units = sum(site.n_units for site in sites)
    shapes = [("values", values.shape[1:])]
    shapes += [("a mask", mask.shape) for mask in masks if mask is not None]
    if control.among is not None:
        shapes.append(("among", control.among.shape))
    for name, shape in shapes:
        if shape != (n_units,):
            raise ValueError(f"{name} must have {n_units} units, those of the sites, got {shape}")


def random_sets(
    mask: BoolArray, sites: Sequence[Site], control: RandomUnits, *, stream: int
) -> list[BoolArray]:
    """Random masks ``[units]`` with as many units at every site as the mask; none if none differ.

    Parameters
    ----------
    mask, sites
        A circuit ``[units]``, and where the units are.
    control
        How many, among which, and the seed.
    stream
        Number of the circuit: every circuit has random numbers of its own.
    """
    among = np.ones_like(mask) if control.among is None else control.among | mask
    parts = [np.arange(mask.size)[part] for part in site_slices(sites)]
    pools = [(part[among[part]], int(mask[part].sum())) for part in parts]
    if all(size in (0, len(pool)) for pool, size in pools):
        return []  # the circuit is the only set with these sizes
    rng = np.random.default_rng(derived_seed(control.seed, "random-units", stream))
    sets = []
    for _ in range(control.sets):
        drawn = np.zeros_like(mask)
        for pool, size in pools:
            drawn[rng.choice(pool, size, replace=False)] = True
        sets.append(drawn)
    return sets


def _row(index: int, about: str, n_units: int, found: Sequence[Estimate]) -> CircuitInformation:
    """The row from the estimate of the circuit, first, and those of its random sets."""
    value, reason = found[0].value, found[0].reason
    random = np.array([estimate.value for estimate in found[1:]])
    if reason not in ("", CONSTANT):  # one class, or too few samples: the same for any units
        random = random[:0]
    below = np.mean((random < value) + 0.5 * (random == value)) if len(random) else math.nan
    return CircuitInformation(
        class_index=index,
        about=about,
        n_units=n_units,
        value=value,
        unit=found[0].unit,
        random_mean=float(random.mean()) if len(random) else math.nan,
        random_std=float(random.std(ddof=1)) if len(random) > 1 else math.nan,
        random_below=float(below),
        reason=reason,
    )


def masks_of(stacked: Tensor, found: Tensor) -> tuple[BoolArray | None, ...]:
    """One model's masks ``[classes, units]`` of a ``CircuitStack``; None where none was found."""
    arrays = stacked.cpu().numpy().astype(np.bool_)
    return tuple(row if known else None for row, known in zip(arrays, found.tolist(), strict=True))
