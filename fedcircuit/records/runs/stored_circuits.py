"""Circuits of a round, from the tables and packed masks that the circuit observer left."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from fedcircuit.circuits import CircuitStack, Site
from fedcircuit.records.files import Arrays
from fedcircuit.records.rounds import Json, table_from_json


def stored_circuits(tables: Mapping[str, Json], arrays: Arrays) -> CircuitStack | None:
    """The circuits of all models and classes; None where there are none.

    Parameters
    ----------
    tables
        ``sites`` (site, n_units and, where known, axis and output) and ``models`` (model), as in
        the round's line.
    arrays
        ``masks`` ``[models, classes, ceil(units / 8)]`` uint8, packed bits along the units, and
        ``found`` ``[models, classes]`` bool.
    """
    if not {"masks", "found"} <= set(arrays) or not {"sites", "models"} <= set(tables):
        return None
    sites = tuple(map(_site, _rows(tables["sites"])))
    packed = arrays["masks"].astype(np.uint8)
    bits = np.unpackbits(packed, axis=-1, count=sum(site.n_units for site in sites))
    return CircuitStack(
        sites=sites,
        models=tuple(str(row["model"]) for row in _rows(tables["models"])),
        masks=torch.from_numpy(bits.astype(np.bool_)),
        found=torch.from_numpy(arrays["found"].astype(np.bool_)),
    )


def _rows(payload: Mapping[str, Json]) -> list[dict[str, Json]]:
    table = table_from_json(payload)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _site(row: Mapping[str, Json]) -> Site:
    """A site; without axis and output, a layer that is read where it stands."""
    name, axis, output = str(row["site"]), row.get("axis"), row.get("output")
    kind, called = (str(row.get(column) or "") for column in ("kind", "name"))
    axis = 1 if axis is None else int(axis)
    return Site(name, int(row["n_units"]), axis, output or name, kind, called)
