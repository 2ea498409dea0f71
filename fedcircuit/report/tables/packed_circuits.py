"""The circuits of a run as packed bits in base64, small enough to be embedded in the page."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from fedcircuit.circuits import Site
from fedcircuit.records.runs import CIRCUITS, Run
from fedcircuit.report.tables import counts as tables

MOST_BITS = 12_000_000  # about 2 MB of base64: of larger runs only the newest rounds are drawn


def circuit_bits(run: Run) -> dict[str, Any] | None:
    """Circuits and live units by round; None where the run has none.

    Under ``rounds`` and the round as text: ``models``; ``masks``, base64 of
    ``[models, classes, ceil(units / 8)]`` packed bits; ``live``, of ``[models, ceil(units / 8)]``;
    and ``found``, by model and class 0 or 1.
    """
    if not tables.has(run, "sites", "models"):
        return None
    drawn: dict[str, Any] = {}
    sites: list[dict[str, Any]] = []
    left = MOST_BITS
    for number in sorted({int(n) for n in tables.frame(run, "models")["round"]}, reverse=True):
        stack = run.masks(number)
        if stack is None:
            continue
        left -= stack.masks.numel()
        if drawn and left < 0:
            break
        sites = [_site(run, site) for site in stack.sites]
        arrays = run.observed(number, CIRCUITS)
        live = arrays.get("live", np.ones((len(stack.models), stack.masks.shape[-1]), np.bool_))
        drawn[str(number)] = {
            "models": list(stack.models),
            "masks": _packed(stack.masks.numpy()),
            "live": _packed(np.asarray(live, dtype=np.bool_)),
            "found": stack.found.int().tolist(),
        }
    return {"sites": sites, "rounds": drawn} if drawn else None


def _site(run: Run, site: Site) -> dict[str, Any]:
    names = run.layer_names
    return {
        "name": names.of(site.name),
        "path": site.name,
        "n_units": site.n_units,
        "unit": names.names.units(site.name, 1),
    }


def _packed(bits: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    return base64.b64encode(np.packbits(bits, axis=-1).tobytes()).decode("ascii")
