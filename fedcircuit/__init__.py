"""See what federated averaging breaks: circuits of every class, in clients and in the average.

The public names are loaded when they are first used; importing the package executes nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fedcircuit.moved import keep_old_names

if TYPE_CHECKING:
    from fedcircuit.app.engines import simulate
    from fedcircuit.app.study import look
    from fedcircuit.circuits import Circuit, CircuitStack, Site
    from fedcircuit.circuits.discovery import discover
    from fedcircuit.circuits.overlap import iou
    from fedcircuit.circuits.probes import Probe
    from fedcircuit.circuits.round import CircuitSettings
    from fedcircuit.clients import SparseClient, client_app, numpyclient_mod
    from fedcircuit.observers import InertiaObserver, InformationObserver, information_of_run
    from fedcircuit.observers.trackers import MlflowTracker, TensorBoardTracker, WandbTracker
    from fedcircuit.report.notebook import Run
    from fedcircuit.report.tables import inertia_of_run
    from fedcircuit.samples import Samples
    from fedcircuit.strategies import LIPS, CircuitFedAvg, Guard, Mended, observe
    from fedcircuit.strategies.recording import RecorderOptions

_HOMES = {
    "InertiaObserver": "fedcircuit.observers",
    "InformationObserver": "fedcircuit.observers",
    "LIPS": "fedcircuit.strategies",
    "Guard": "fedcircuit.strategies",
    "Mended": "fedcircuit.strategies",
    "MlflowTracker": "fedcircuit.observers.trackers",
    "TensorBoardTracker": "fedcircuit.observers.trackers",
    "WandbTracker": "fedcircuit.observers.trackers",
    "look": "fedcircuit.app.study",
    "inertia_of_run": "fedcircuit.report.tables",
    "information_of_run": "fedcircuit.observers",
    "Circuit": "fedcircuit.circuits",
    "CircuitStack": "fedcircuit.circuits",
    "Site": "fedcircuit.circuits",
    "discover": "fedcircuit.circuits.discovery",
    "iou": "fedcircuit.circuits.overlap",
    "Probe": "fedcircuit.circuits.probes",
    "CircuitSettings": "fedcircuit.circuits.round",
    "SparseClient": "fedcircuit.clients",
    "client_app": "fedcircuit.clients",
    "numpyclient_mod": "fedcircuit.clients",
    "Run": "fedcircuit.report.notebook",
    "Samples": "fedcircuit.samples",
    "CircuitFedAvg": "fedcircuit.strategies",
    "RecorderOptions": "fedcircuit.strategies",
    "observe": "fedcircuit.strategies",
    "simulate": "fedcircuit.app.engines",
}

__all__ = [
    "LIPS",
    "Circuit",
    "CircuitFedAvg",
    "CircuitSettings",
    "CircuitStack",
    "Guard",
    "InertiaObserver",
    "InformationObserver",
    "Mended",
    "MlflowTracker",
    "Probe",
    "RecorderOptions",
    "Run",
    "Samples",
    "Site",
    "SparseClient",
    "TensorBoardTracker",
    "WandbTracker",
    "client_app",
    "discover",
    "inertia_of_run",
    "information_of_run",
    "iou",
    "look",
    "numpyclient_mod",
    "observe",
    "simulate",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedcircuit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


keep_old_names()
