"""See what federated averaging breaks: circuits of every class, in clients and in the average.

The public names are loaded when they are first used; importing the package executes nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedcircuit.app.look import look
    from fedcircuit.app.simulation import simulate
    from fedcircuit.circuits.circuit import Circuit, CircuitStack, Site
    from fedcircuit.circuits.discover import discover
    from fedcircuit.circuits.overlap import iou
    from fedcircuit.circuits.probe import Probe
    from fedcircuit.circuits.settings import CircuitSettings
    from fedcircuit.clients import SparseClient, client_app, numpyclient_mod
    from fedcircuit.observers.inertia import InertiaObserver
    from fedcircuit.observers.information import InformationObserver, information_of_run
    from fedcircuit.observers.mlflow_tracker import MlflowTracker
    from fedcircuit.observers.tensorboard_tracker import TensorBoardTracker
    from fedcircuit.observers.wandb_tracker import WandbTracker
    from fedcircuit.report.inertia import inertia_of_run
    from fedcircuit.report.loaded import Run
    from fedcircuit.samples import Samples
    from fedcircuit.strategies import LIPS, CircuitFedAvg, RecorderOptions, observe

_HOMES = {
    "InertiaObserver": "fedcircuit.observers.inertia",
    "InformationObserver": "fedcircuit.observers.information",
    "LIPS": "fedcircuit.strategies",
    "MlflowTracker": "fedcircuit.observers.mlflow_tracker",
    "TensorBoardTracker": "fedcircuit.observers.tensorboard_tracker",
    "WandbTracker": "fedcircuit.observers.wandb_tracker",
    "look": "fedcircuit.app.look",
    "inertia_of_run": "fedcircuit.report.inertia",
    "information_of_run": "fedcircuit.observers.information",
    "Circuit": "fedcircuit.circuits.circuit",
    "CircuitStack": "fedcircuit.circuits.circuit",
    "Site": "fedcircuit.circuits.circuit",
    "discover": "fedcircuit.circuits.discover",
    "iou": "fedcircuit.circuits.overlap",
    "Probe": "fedcircuit.circuits.probe",
    "CircuitSettings": "fedcircuit.circuits.settings",
    "SparseClient": "fedcircuit.clients",
    "client_app": "fedcircuit.clients",
    "numpyclient_mod": "fedcircuit.clients",
    "Run": "fedcircuit.report.loaded",
    "Samples": "fedcircuit.samples",
    "CircuitFedAvg": "fedcircuit.strategies",
    "RecorderOptions": "fedcircuit.strategies",
    "observe": "fedcircuit.strategies",
    "simulate": "fedcircuit.app.simulation",
}

__all__ = [
    "LIPS",
    "Circuit",
    "CircuitFedAvg",
    "CircuitSettings",
    "CircuitStack",
    "InertiaObserver",
    "InformationObserver",
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
