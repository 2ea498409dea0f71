"""What runs clients: this process, or Ray."""

from typing import TYPE_CHECKING

from fedcircuit.app.engines.engine import Engine, EngineError, Federation
from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.app.engines.running import quiet_environment, quiet_flower, run_federation
from fedcircuit.app.engines.simulation import simulate

__all__ = [
    "Engine",
    "EngineError",
    "Federation",
    "InProcessGrid",
    "quiet_environment",
    "quiet_flower",
    "run_federation",
    "simulate",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
