"""The circuits of a round as tables for people and arrays for later work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedcircuit.circuits import Site, site_slices
from fedcircuit.circuits.checks import Status, Validity
from fedcircuit.circuits.round import ModelCircuits, RoundCircuits
from fedcircuit.circuits.verdicts import CircuitFunction
from fedcircuit.observers.circuits.noise_ceiling import Ceilings, ceiling_table, corrected_table
from fedcircuit.observers.circuits.overlap_tables import class_swap_table, overlap_table
from fedcircuit.records.rounds import NOT_FINITE_LOGITS, Cell, Failure, Observation, Table

Row = tuple[Cell, ...]
DIGITS = 5  # of measurements on a few hundred samples
_MEASURES = tuple(field.name for field in fields(Validity))
_FUNCTION_MEASURES = tuple(field.name for field in fields(CircuitFunction))


def round_observation(
    result: RoundCircuits,
    skipped: Sequence[tuple[str, str]] = (),
    *,
    scores: bool,
    ceilings: Ceilings | None = None,
) -> Observation:
    """Tables and arrays of a round; measurements in tables to five significant digits.

    Parameters
    ----------
    result
        What is known of its circuits.
    skipped
        Clients left out before the analysis, with the reason.
    scores
        Whether the discovery scores are among the arrays.
    ceilings
        From a second search (`fedcircuit.observers.circuits.noise_ceiling`); None or empty where
        there was none, which leaves out the tables ``ceiling`` and ``corrected``.
    """
    tables = {
        "sites": sites_table(result.sites, result.models[0].live),
        "models": models_table([one.model for one in result.models]),
        "validity": validity_table({one.model: one.validity for one in result.models}),
        "function": _function_table(result),
        "overlap": overlap_table(result),
        "class_swap": class_swap_table(result),
        "verdicts": _verdicts_table(result),
        "skipped": skipped_table((*skipped, *result.skipped)),
        "seconds": Table(("part", "seconds"), tuple(result.seconds.items())),
    }
    if ceilings:
        tables["ceiling"] = ceiling_table(ceilings)
        tables["corrected"] = corrected_table(result, ceilings)
    stack = result.stack
    arrays = mask_arrays(stack.masks, stack.found, result.live)
    if scores:
        arrays["scores"] = _scores(result.models)
    return Observation(
        {name: rounded(table) for name, table in tables.items()}, arrays, _not_finite(result)
    )


def _not_finite(result: RoundCircuits) -> tuple[Failure, ...]:
    """Models of which nothing can be measured, with the reason."""
    return tuple(
        Failure(one.model, NOT_FINITE_LOGITS, bad[0].reason)
        for one in result.models
        if (bad := [v for v in one.validity if v.status is Status.NOT_FINITE])
    )


def rounded(table: Table) -> Table:
    """The table with its floats to `DIGITS` significant digits; other cells and NaN as they are."""
    return Table(
        table.columns,
        tuple(
            tuple(float(f"{cell:.{DIGITS}g}") if isinstance(cell, float) else cell for cell in row)
            for row in table.rows
        ),
    )


def sites_table(sites: Sequence[Site], live: Tensor) -> Table:
    """Units, and live units of one model, of every site; its kind, and what people call it."""
    counts = [int(live[part].sum()) for part in site_slices(sites)]
    rows = tuple(
        (site.name, site.n_units, n, site.kind, site.title)
        for site, n in zip(sites, counts, strict=True)
    )
    return Table(("site", "n_units", "live", "kind", "name"), rows)


def models_table(models: Sequence[str]) -> Table:
    """The models in the order of the arrays' rows."""
    return Table(("model",), tuple((model,) for model in models))


def skipped_table(skipped: Sequence[tuple[str, str]]) -> Table:
    """Clients left out, with the reason."""
    return Table(("client", "reason"), tuple(skipped))


def validity_table(validity: Mapping[str, Sequence[Validity]]) -> Table:
    """The checks of every class by model."""
    rows: list[Row] = []
    for model, classes in validity.items():
        for index, one in enumerate(classes):
            values = (getattr(one, name) for name in _MEASURES)
            rows.append((model, index, str(one.status), *list(values)[1:]))
    return Table(("model", "class", *_MEASURES), tuple(rows))


def mask_arrays(masks: Tensor, found: Tensor, live: Tensor) -> dict[str, NDArray[np.generic]]:
    """Circuits as packed bits, where one was found, and live units.

    Parameters
    ----------
    masks, found, live
        ``[models, classes, units]``, ``[models, classes]`` and ``[models, units]`` bool.
    """
    return {
        "masks": np.packbits(masks.numpy(), axis=-1),
        "found": found.numpy().copy(),
        "live": live.numpy().copy(),
    }


def _function_table(result: RoundCircuits) -> Table:
    rows: list[Row] = []
    for client, pair in result.comparisons.items():
        directions = {
            "local_in_global": pair.local_in_global,
            "global_in_local": pair.global_in_local,
        }
        for direction, functions in directions.items():
            rows += [
                (client, index, direction, *(getattr(one, name) for name in _FUNCTION_MEASURES))
                for index, one in enumerate(functions)
            ]
    return Table(("client", "class", "direction", *_FUNCTION_MEASURES), tuple(rows))


def _verdicts_table(result: RoundCircuits) -> Table:
    rows = tuple(
        (client, index, None if found is None else str(found), reason)
        for client, pair in result.comparisons.items()
        for index, (found, reason) in enumerate(pair.verdicts)
    )
    return Table(("client", "class", "verdict", "reason"), rows)


def _scores(models: Sequence[ModelCircuits]) -> NDArray[np.generic]:
    """``[models, classes, units]`` float16; NaN where circuits came without scores."""
    largest = torch.finfo(torch.float16).max
    rows = [
        torch.full(one.masks.shape, torch.nan) if one.scores is None else one.scores
        for one in models
    ]
    return torch.stack([row.clamp(-largest, largest).half() for row in rows]).numpy()
