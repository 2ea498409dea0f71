"""The units of any model: where they are, and how they are read and changed."""

from typing import TYPE_CHECKING

from fedcircuit.circuits.sites.finding import find_sites, require_independent
from fedcircuit.circuits.sites.gating import gate
from fedcircuit.circuits.sites.hooks import (
    Route,
    Transform,
    call_order,
    capture,
    capture_leaves,
    gated,
    masked,
    require_gradient,
    rerouted,
    site_graph,
    transformed,
)

__all__ = [
    "Route",
    "Transform",
    "call_order",
    "capture",
    "capture_leaves",
    "find_sites",
    "gate",
    "gated",
    "masked",
    "require_independent",
    "require_gradient",
    "rerouted",
    "site_graph",
    "transformed",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
