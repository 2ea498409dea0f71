"""The units of any model: where they are, and how they are read and changed."""

from typing import TYPE_CHECKING

from fedcircuit.circuits.sites.finding import find_sites, require_independent
from fedcircuit.circuits.sites.gating import gate
from fedcircuit.circuits.sites.hooks import (
    Route,
    Transform,
    call_order,
    capture,
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

    def __getattr__(name: str) -> object:
        from fedcircuit.moved import moved_name

        return moved_name(__name__, name)
